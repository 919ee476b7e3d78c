"""From a sample of rows to a task: which one, which columns, which labels, and why.

Decides by names first and by what the cells hold second, and says for every guess what it
rests on. Pure. Imports ``api`` and ``verbs.look`` alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tunefleet.api.errors import DataError
from tunefleet.verbs.look import Sample

_TEXTS = (
    "text sentence review content body comment message tweet document utterance query "
    "question description headline title abstract input prompt"
)
_LABELS = (
    "label labels category categories class sentiment tag tags topic intent polarity emotion "
    "target gold stars rating score grade priority y output"
)
_PROMPTS = "prompt instruction question input user"
_ANSWERS = "completion response answer output target assistant chosen"
_PAIRS = (
    ("premise", "hypothesis"),
    ("first", "second"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "sentence"),
    ("question", "context"),
    ("left", "right"),
    ("text", "textpair"),
    ("a", "b"),
)
_GROUPS = re.compile(r"(customer|user|author|patient|session|account|speaker|group)(id)?")
_SEPARATORS = ("|", ";", ",")
_CLASSES = 50
_LISTED = 30


@dataclass(frozen=True, slots=True)
class Why:
    """A guess and what it rests on."""

    what: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Guess:
    """The task a file is for. ``options`` are the task's own, by their names in a job."""

    task: str
    columns: dict[str, str]
    options: dict[str, object] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    group: str | None = None
    foreign: bool = False
    why: tuple[Why, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cells of a column look like."""

    name: str
    words: float
    filled: int
    distinct: int
    numbers: float
    whole: bool
    lists: float
    messages: float
    longest: int

    @property
    def is_text(self) -> bool:
        """Text worth reading: words, not numbers, not lists, and not the same few values."""
        few = self.distinct <= min(_CLASSES, self.filled // 4) and self.words < 3
        plain = self.numbers < 0.5 and self.lists < 0.5 and self.messages < 0.5
        return plain and self.filled > 0 and self.longest > 1 and not few


def guess(sample: Sample) -> Guess:
    """The most likely task; raises ``DataError`` when no column can be learned from."""
    shapes = [shape_of(name, cells) for name, cells in sample.columns.items()]
    found = _chat(shapes) or _instruction(shapes) or _labelled(sample, shapes) or _plain(shapes)
    if found is None:
        names = ", ".join(repr(shape.name) for shape in shapes[:12])
        raise DataError(
            f"{sample.path}: no column looks like text (columns: {names})",
            remedy="name a file with a column of texts, such as text,label",
        )
    return found


def shape_of(name: str, cells: Sequence[object]) -> Shape:
    """Measure a column."""
    filled = [cell for cell in cells if cell is not None and cell != ""]
    texts = [cell if isinstance(cell, str) else json.dumps(cell, default=str) for cell in filled]
    numbers = [number for number in map(_number, filled) if number is not None]
    count = max(1, len(filled))
    return Shape(
        name=name,
        words=fmean(len(text.split()) for text in texts) if texts else 0.0,
        filled=len(filled),
        distinct=len(set(texts)),
        numbers=len(numbers) / count,
        whole=all(number.is_integer() for number in numbers),
        lists=sum(isinstance(cell, list | tuple) for cell in filled) / count,
        messages=sum(_is_chat(cell) for cell in filled[:100]) / max(1, min(100, len(filled))),
        longest=max(map(len, texts), default=0),
    )


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) < float("inf") else None


def _is_chat(cell: object) -> bool:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return False
    return (
        isinstance(cell, list)
        and bool(cell)
        and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in cell)
    )


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _by_name(shapes: Sequence[Shape], names: str) -> Shape | None:
    """The column whose name comes first in a list of usual names (words)."""
    by_name = {_squeezed(shape.name): shape for shape in reversed(shapes)}
    return next((by_name[name] for name in names.split() if name in by_name), None)


# -- causal-lm ---------------------------------------------------------------------------


def _chat(shapes: Sequence[Shape]) -> Guess | None:
    for shape in shapes:
        if shape.messages > 0.5:
            return Guess(
                "causal-lm",
                {"messages": shape.name},
                {"format": "chat"},
                why=(
                    Why("task", "causal-lm, chat", f"{shape.name!r} holds lists of role, content"),
                ),
            )
    return None


def _instruction(shapes: Sequence[Shape]) -> Guess | None:
    texts = [
        shape for shape in shapes if shape.is_text or _squeezed(shape.name) in _ANSWERS.split()
    ]
    prompt = _by_name([shape for shape in texts if shape.is_text], _PROMPTS)
    answer = _by_name([shape for shape in texts if shape is not prompt], _ANSWERS)
    if (
        prompt is None
        or answer is None
        or _by_name(shapes, "label labels category categories") is not None
    ):
        return None
    free = answer.distinct > max(2, answer.filled // 4) and answer.numbers < 0.9
    told = {_squeezed(prompt.name), _squeezed(answer.name)} == {"prompt", "completion"}
    if not (free or told):
        return None
    columns = {"prompt": prompt.name, "completion": answer.name}
    system = _by_name(shapes, "system systemprompt")
    if system is not None and system.filled:
        columns["system"] = system.name
    reason = f"{prompt.name!r} is answered by {answer.name!r}"
    return Guess(
        "causal-lm",
        columns,
        {"format": "instruction"},
        why=(Why("task", "causal-lm, instruction", reason),),
    )


def _plain(shapes: Sequence[Shape]) -> Guess | None:
    texts = [shape for shape in shapes if shape.is_text]
    chosen = _by_name(texts, _TEXTS) or max(texts, key=lambda shape: shape.words, default=None)
    if chosen is None:
        return None
    why = Why(
        "task", "causal-lm, text", f"{chosen.name!r} is text, and no column looks like a label"
    )
    return Guess("causal-lm", {"text": chosen.name}, {"format": "text"}, why=(why,))


# -- text-classification -----------------------------------------------------------------


def _labelled(sample: Sample, shapes: Sequence[Shape]) -> Guess | None:
    label = _label_column(shapes)
    if label is None:
        return None
    rest = [shape for shape in shapes if shape is not label and shape.is_text]
    text, second = _text_columns(rest)
    if text is None:
        return None
    columns = {"text": text.name}
    why = [Why("text", text.name, _text_reason(text))]
    if second is not None:
        columns["textPair"] = second.name
        why.append(Why("textPair", second.name, f"it stands beside {text.name!r} by its name"))
    columns["label"] = label.name
    options, labels, reasons = _problem(label, sample.columns[label.name], sample.complete)
    shown = f"text-classification, {options.get('problem', 'single-label')}"
    return Guess(
        "text-classification",
        columns,
        options,
        labels,
        group=_group(shapes, columns),
        foreign=_foreign(sample.columns[text.name]),
        why=(
            Why("task", shown, reasons[0]),
            *why,
            *(Why("label", label.name, r) for r in reasons[1:]),
        ),
    )


def _label_column(shapes: Sequence[Shape]) -> Shape | None:
    usable = [shape for shape in shapes if shape.filled and shape.messages < 0.5]
    named = _by_name([shape for shape in usable if not _is_prose(shape)], _LABELS)
    if named is not None:
        return named
    few = [
        shape
        for shape in usable
        if not shape.is_text
        and 2 <= shape.distinct <= min(_CLASSES, max(2, shape.filled // 4))
        and not _GROUPS.fullmatch(_squeezed(shape.name))
    ]
    return min(few, key=lambda shape: shape.distinct, default=None)


def _is_prose(shape: Shape) -> bool:
    return shape.is_text and shape.words > 4 and shape.distinct > shape.filled // 2


def _text_columns(texts: Sequence[Shape]) -> tuple[Shape | None, Shape | None]:
    by_name = {_squeezed(shape.name): shape for shape in texts}
    for first, second in _PAIRS:
        if first in by_name and second in by_name:
            return by_name[first], by_name[second]
    for name, shape in by_name.items():
        twin = re.fullmatch(r"(.*?)(1|a|left)", name)
        other = {"1": "2", "a": "b", "left": "right"}
        if twin and (partner := by_name.get(twin[1] + other[twin[2]])) is not None:
            return shape, partner
    return _by_name(texts, _TEXTS) or max(texts, key=lambda shape: shape.words, default=None), None


def _text_reason(text: Shape) -> str:
    return f"it holds {text.words:.0f} words on average"


def _problem(
    label: Shape, cells: Sequence[object], complete: bool
) -> tuple[dict[str, object], tuple[str, ...], list[str]]:
    """The options, the label names (where all are known) and the reasons."""
    name = label.name
    if label.lists > 0.5:
        found = {_spell(item) for cell in cells if isinstance(cell, list | tuple) for item in cell}
        return {"problem": "multi-label"}, _sorted(found, complete), [f"{name!r} holds lists"]
    separator = _separator(label, cells)
    if separator is not None:
        found = {part.strip() for cell in cells for part in str(cell or "").split(separator)}
        options: dict[str, object] = {"problem": "multi-label"}
        if separator != "|":
            options["labelSeparator"] = separator
        reason = f"{name!r} holds several names separated by {separator!r}"
        return options, _sorted(found - {""}, complete), [reason]
    if label.numbers > 0.9 and (not label.whole or label.distinct > 20):
        return (
            {"problem": "regression"},
            (),
            [f"{name!r} holds {label.distinct:,} different numbers"],
        )
    found = {_spell(cell) for cell in cells if cell is not None and cell != ""}
    reasons = [f"{name!r} holds {len(found)} different values"]
    if label.numbers > 0.9 and label.distinct > 2:
        reasons.append("taken as names; for a number on a scale set problem: regression")
    return {}, _sorted(found, complete) if len(found) > 1 else (), reasons


def _separator(label: Shape, cells: Sequence[object]) -> str | None:
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    for mark in _SEPARATORS:
        joined = [text for text in texts if mark in text]
        parts = {part.strip() for text in texts for part in text.split(mark)}
        enough = len(joined) >= max(2, len(texts) // 10)
        if enough and len(parts) < min(label.distinct + 1, _CLASSES) and label.numbers < 0.5:
            return mark
    return None


def _spell(cell: object) -> str:
    """A label as the data's readers spell it."""
    from tunefleet.data.cells import spell

    return spell(cell)


def _sorted(found: set[str], complete: bool) -> tuple[str, ...]:
    if not complete or len(found) > _LISTED:
        return ()
    if all(_number(name) is not None for name in found):
        return tuple(sorted(found, key=float))
    return tuple(sorted(found))


def _group(shapes: Sequence[Shape], columns: Mapping[str, str]) -> str | None:
    for shape in shapes:
        repeated = 1 < shape.distinct < shape.filled
        if (
            shape.name not in columns.values()
            and repeated
            and _GROUPS.fullmatch(_squeezed(shape.name))
        ):
            return shape.name
    return None


def _foreign(cells: Sequence[object]) -> bool:
    """Whether an English vocabulary would not do: many letters outside of it."""
    text = "".join(str(cell) for cell in cells[:500])
    letters = sum(letter.isalpha() for letter in text)
    return letters > 0 and sum(ord(x) > 0x7F for x in text if x.isalpha()) / letters > 0.02
