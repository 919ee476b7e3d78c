"""From scores back to rows: the units worth reading, with their texts and places.

Decides how a row is written out for a reader and where a long text is cut. Imports numpy,
``data`` and the report's shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunefleet.data.tokens import Rows
from tunefleet.evaluate.content import Sample
from tunefleet.evaluate.measures import Ints
from tunefleet.tasks.contract import Scores

MOST_SAMPLES = 20
MOST_CHARACTERS = 700


def in_unit_order(scores: Scores, rows: Rows) -> Rows | None:
    """The row of every unit, in the scores' order; None when a unit's row is not there."""
    wanted = np.asarray(scores["ids"], dtype=np.int64)
    order = np.argsort(rows.ids, kind="stable")
    if not len(order):
        return None
    found = np.clip(np.searchsorted(rows.ids[order], wanted), 0, len(order) - 1)
    positions = order[found]
    return rows.take(positions) if np.array_equal(rows.ids[positions], wanted) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about a unit beside its text."""

    true: str = ""
    predicted: str = ""
    confidence: float | None = None
    loss: float | None = None
    tokens: int | None = None


def pick(rows: Rows | None, chosen: Ints, verdicts: Sequence[Verdict]) -> list[Sample]:
    """Samples of the chosen units (positions in unit order) with their verdicts."""
    if rows is None:
        return []
    found = []
    for position, verdict in zip(chosen.tolist(), verdicts, strict=True):
        cells = {name: values[position] for name, values in rows.columns.items()}
        text = written_out(cells)
        file, line = rows.place(position)
        found.append(
            Sample(
                text=_readable(text[:MOST_CHARACTERS]),
                clipped=max(0, len(text) - MOST_CHARACTERS),
                second_text=_readable(str(cells.get("textPair") or "")[:MOST_CHARACTERS]),
                true=verdict.true,
                predicted=verdict.predicted,
                confidence=verdict.confidence,
                loss=verdict.loss,
                tokens=verdict.tokens,
                file=_readable(file),
                line=line,
                id=int(rows.ids[position]),
            )
        )
    return found


def written_out(cells: Mapping[str, object]) -> str:
    """A row's text as a reader sees it: the text, the chat, or prompt and completion."""
    messages = cells.get("messages")
    if isinstance(messages, list):
        turns = [turn for turn in messages if isinstance(turn, dict)]
        return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in turns)
    if "prompt" in cells:
        parts = [("system", cells.get("system")), ("prompt", cells["prompt"])]
        parts.append(("completion", cells.get("completion")))
        return "\n".join(f"{name}: {text}" for name, text in parts if text)
    if "text" in cells:
        return str(cells["text"])
    return next((cell for cell in cells.values() if isinstance(cell, str)), "")


def text_lengths(rows: Rows) -> Ints:
    """Characters of every row as it is written out (both texts of a pair)."""
    names = list(rows.columns)
    lengths = []
    for values in zip(*rows.columns.values(), strict=True):
        cells = dict(zip(names, values, strict=True))
        lengths.append(len(written_out(cells)) + len(str(cells.get("textPair") or "")))
    return np.asarray(lengths, dtype=np.int64)


def _readable(text: str) -> str:
    """The text without control characters, which a browser would drop or obey unseen."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t\u200d"
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
