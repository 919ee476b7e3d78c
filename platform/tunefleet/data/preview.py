"""What the model will see: some units of a split, token by token.

Decides which units are looked at (a fixed random draw, the same at every call) and what is
told of each token: its text, whether it is special, padding, or carries loss. Goes through
the same ``collate`` as training. Imports torch (through ``batch``) and transformers' types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunefleet.api.tasks import Column
from tunefleet.data.batch import collate
from tunefleet.data.draws import PREVIEW, shuffled
from tunefleet.data.tokens import Rows, TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Token:
    """A position of a unit in its micro-batch."""

    id: int
    text: str
    attended: bool
    supervised: bool
    special: bool
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """A unit as the model gets it. ``answer`` is its label (or number) in words ("": none)."""

    place: str
    answer: str
    weight: int
    tokens: tuple[Token, ...]


def previews(
    store: TokenStore,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    columns: Sequence[Column],
    labels: Sequence[str],
    *,
    count: int,
    seed: int,
) -> tuple[Preview, ...]:
    """``count`` units of a split, padded together as one micro-batch."""
    units = np.sort(shuffled(len(store), seed, PREVIEW)[:count])
    if not len(units):
        return ()
    batch = {name: tensor.numpy() for name, tensor in collate(store, units).items()}
    by_id = {int(found): position for position, found in enumerate(rows.ids)}
    special = set(tokenizer.all_special_ids)
    kinds = [c for c in columns if c.kind in {"label", "labels", "number"}]
    found = []
    for at, unit in enumerate(units):
        row = by_id[int(store.ids[unit])]
        found.append(
            Preview(
                place=_place(rows, row),
                answer=_answer(rows, row, kinds, labels),
                weight=int(store.weights[unit]),
                tokens=tuple(_tokens(batch, at, tokenizer, special)),
            )
        )
    return tuple(found)


def _tokens(
    batch: dict[str, Any], at: int, tokenizer: PreTrainedTokenizerBase, special: set[int]
) -> list[Token]:
    ids = batch["input_ids"][at].tolist()
    mask = batch["attention_mask"][at].tolist()
    carries = batch["supervised"][at].tolist() if "supervised" in batch else [0] * len(ids)
    segments = batch["token_type_ids"][at].tolist() if "token_type_ids" in batch else [0] * len(ids)
    return [
        Token(
            id=token,
            text=_text(tokenizer, token),
            attended=bool(real),
            supervised=bool(real and learned),
            special=token in special,
            segment=segment if real else 0,
        )
        for token, real, learned, segment in zip(ids, mask, carries, segments, strict=True)
    ]


def _text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as text; one that is part of a character as the tokenizer writes it."""
    text = tokenizer.decode([token], skip_special_tokens=False)
    raw = tokenizer.convert_ids_to_tokens(token)
    assert isinstance(text, str)
    return str(raw) if not text or "\ufffd" in text else text


def _place(rows: Rows, row: int) -> str:
    file, line = rows.place(row)
    return f"{file}:{line}" if line else f"{file} id {int(rows.ids[row])}".strip()


def _answer(rows: Rows, row: int, kinds: Sequence[Column], labels: Sequence[str]) -> str:
    words = []
    for column in kinds:
        if column.name not in rows.columns:
            continue
        value = rows.columns[column.name][row]
        if column.kind == "label":
            words.append(labels[value])
        elif column.kind == "labels":
            words.append(", ".join(labels[index] for index in value) or "no label")
        else:
            words.append(f"{value:g}")
    return "; ".join(words)
