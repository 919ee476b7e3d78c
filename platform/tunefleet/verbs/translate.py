"""Turns what pydantic says about a job into words a person can act on.

Decides the sentence and the remedy for every kind of error that a job file can cause, and
which of several errors about one value is worth telling. Imports ``api`` and pydantic alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tunefleet.api.base import DNS_LABEL_PATTERN, BrokenRules
from tunefleet.api.fields import Field, Path, all_fields, dotted, field_at
from tunefleet.api.suggest import SYNONYMS, nearest, squeeze
from tunefleet.verbs.locate import Located, Place

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_SHOWN = 60
_SURE = 0.85


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong at a path; ``reads`` are the fields a rule between fields looked at."""

    path: Path
    kind: str
    message: str
    remedy: str = ""
    reads: tuple[Path, ...] = ()


def issues_of(error: ValidationError, document: Located) -> list[Issue]:
    """Every error once, in the order of the document's fields."""
    found: dict[Path, list[tuple[Path, ErrorDetails]]] = {}
    for details in error.errors(include_url=False):
        path, base = _real_path(details, document.value)
        found.setdefault(base, []).append((path, details))
    issues: list[Issue] = []
    for base, group in found.items():
        for path, details in _worth_telling(base, group):
            issues += _issues(path, details, document, merged=path == base and len(group) > 1)
    return issues


def _real_path(details: ErrorDetails, value: object) -> tuple[Path, Path]:
    """The error's path in the document, and that of the value whose alternatives failed.

    pydantic's location also names the alternative of a union; those steps are no part of
    the document, and the first of them ends the second path.
    """
    path: list[str | int] = []
    base: Path | None = None
    end = len(details["loc"]) - 1
    for at, step in enumerate(details["loc"]):
        if _has(value, step):
            value = cast("dict[str | int, object]", value)[step]
        elif at == end and details["type"] == "missing":
            value = None
        else:
            base = base if base is not None else tuple(path)
            continue
        path.append(step)
    full = tuple(path)
    return full, base if base is not None else full


def _has(value: object, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


_MISMATCHES = {
    "string_type",
    "int_type",
    "float_type",
    "bool_type",
    "list_type",
    "dict_type",
    "model_type",
    "literal_error",
}


def _worth_telling(
    base: Path, group: list[tuple[Path, ErrorDetails]]
) -> list[tuple[Path, ErrorDetails]]:
    """Of the errors of a union's alternatives, those of the one that was meant."""
    if len(group) == 1:
        return group
    meant = [
        (path, details)
        for path, details in group
        if path != base or details["type"] not in _MISMATCHES
    ]
    return meant or group[:1]


def _issues(path: Path, details: ErrorDetails, document: Located, *, merged: bool) -> list[Issue]:
    kind = details["type"]
    context = details.get("ctx", {})
    raised = context.get("error")
    if isinstance(raised, BrokenRules):
        return [
            Issue(
                (*path, *rule.at),
                "rule",
                rule.message,
                rule.remedy,
                tuple((*path, *read) for read in rule.reads) or (path,),
            )
            for rule in raised.rules
        ]
    place = document.place(path)
    if len(details["loc"]) > len(path) and details["loc"][-1] == "[key]":
        # The key itself is at fault, not the value behind it.
        kind, place = "invalid_key", Place(place.file, place.line)
    shown = show(details["input"], place)
    field = field_at(path)
    fault = Fault(path, shown, details["input"], place, field, context)
    if merged and kind in _MISMATCHES and field is not None:
        return [Issue(path, kind, f"{shown} does not fit here", fault.expected)]
    message, remedy = SENTENCES[kind](fault) if kind in SENTENCES else (details["msg"], "")
    return [Issue(path, kind, message, remedy)]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a sentence is made of: the value as the user wrote it, and what the field takes."""

    path: Path
    shown: str
    value: object
    place: Place
    field: Field | None
    context: Mapping[str, object]

    @property
    def expected(self) -> str:
        return f"give {self.field.expects()}" if self.field else ""

    @property
    def noun(self) -> str:
        if self.value is None:
            return "nothing"
        names: dict[type, str] = {
            bool: "true/false",
            int: "a number",
            float: "a number",
            str: "text",
            list: "a list",
            dict: "a block",
        }
        return names.get(type(self.value), "something else")


Sentence = Callable[[Fault], tuple[str, str]]


def show(value: object, place: Place) -> str:
    """A value as the user wrote it, shortened, safe to print."""
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "an empty value"
    text = place.raw if place.raw is not None else str(value)
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return f"'{text}'" if isinstance(value, str) else text


def _missing(fault: Fault) -> tuple[str, str]:
    expects = fault.field.expects() if fault.field else ""
    return "is missing", f"add `{fault.path[-1]}:` with {expects}" if expects else "add it"


def _unknown(fault: Fault) -> tuple[str, str]:
    name = str(fault.path[-1])
    return "there is no such field here", where_it_belongs(name, fault.path[:-1])


def where_it_belongs(name: str, block: Path) -> str:
    """What was probably meant by an unknown field, here or elsewhere in the tree."""
    here = field_at(block)
    known = list(here.children()) if here else []
    elsewhere: dict[str, list[Path]] = {}
    for path in all_fields():
        if path[:-1] != block:
            elsewhere.setdefault(str(path[-1]), []).append(path)
    exact = {squeeze(word): word for word in known}.get(squeeze(name))
    there = {squeeze(word): word for word in elsewhere}.get(squeeze(name))
    if exact is None and there is not None:
        return _belongs(there, elsewhere[there], block)
    close = nearest(name, known)
    if close is not None:
        return f"did you mean `{close}`?"
    far = nearest(name, elsewhere)
    if far is not None and _alike(far, name):
        return _belongs(far, elsewhere[far], block)
    return f"remove it; known here: {', '.join(known)}" if known else "remove it"


def _alike(found: str, name: str) -> bool:
    # Far away only a word of another tool or a near miss counts.
    near = difflib.SequenceMatcher(None, squeeze(found), squeeze(name)).ratio() >= _SURE
    return near or SYNONYMS.get(squeeze(name)) == found


def _belongs(name: str, paths: Sequence[Path], block: Path) -> str:
    def shared(path: Path) -> int:
        return sum(1 for one, other in zip(path, block, strict=False) if one == other)

    best = sorted(paths, key=lambda path: (-shared(path), len(path)))[:2]
    homes = " or ".join(
        dotted(path[1:-1] if path[0] == "spec" and len(path) > 2 else path[:-1]) or "the top level"
        for path in best
    )
    return f"`{name}` belongs under {homes}"


def _not_text(fault: Fault) -> tuple[str, str]:
    if isinstance(fault.value, bool | int | float):
        raw = fault.place.raw if fault.place.raw is not None else str(fault.value).lower()
        return f"{fault.shown} is {fault.noun}, not text", f'put quotes round it: "{raw[:_SHOWN]}"'
    return f"{fault.shown} is not text", _fill(fault)


def _fill(fault: Fault) -> str:
    if fault.value is None:
        remove = "remove the field, or " if fault.field and not fault.field.required else ""
        return f"{remove}{fault.expected}"
    return fault.expected


_GROUPED = re.compile(r"[-+]?\d{1,3}([_, ]\d{3})+(\.\d+)?|[-+]?\d+(_\d+)+")


def _not_a_number(fault: Fault) -> tuple[str, str]:
    noun = "a whole number" if fault.field and "number" not in fault.field.kinds else "a number"
    if isinstance(fault.value, str):
        text = fault.value.strip()
        if _is_number(text):
            return f"{fault.shown} is text, not {noun}", f"remove the quotes: {text}"
        if _GROUPED.fullmatch(text):
            plain = re.sub(r"[_, ]", "", text)
            return f"{fault.shown} is not {noun}", f"write the digits together: {plain}"
        if text.endswith("%") and _is_number(text[:-1]):
            return f"{fault.shown} is not {noun}", f"write {float(text[:-1]) / 100:g}"
    return f"{fault.shown} is not {noun}", _fill(fault)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text))


def _not_true_or_false(fault: Fault) -> tuple[str, str]:
    meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
    text = str(fault.value).casefold()
    meant |= {"true": "true", "false": "false", "1": "true", "0": "false"}
    return f"{fault.shown} is neither true nor false", f"write {meant.get(text, 'true or false')}"


def _block(fault: Fault) -> tuple[str, str]:
    if fault.value is None:
        return "is empty", _fill(fault)
    return f"{fault.shown} stands where a block of fields is expected", fault.expected


def _list(fault: Fault) -> tuple[str, str]:
    if fault.value is None:
        return "is empty", _fill(fault)
    example = f": [{fault.place.raw}]" if fault.place.raw else ""
    return f"{fault.shown} is not a list", f"write a list{example}; {fault.expected}"


def _choice(fault: Fault) -> tuple[str, str]:
    words = fault.field.words if fault.field else ()
    name = fault.path[-1] if fault.path else ""
    if len(words) == 1:
        return f"{fault.shown} is not known", f"write `{name}: {words[0]}`"
    found = nearest(str(fault.value), words)
    hint = f"did you mean `{found}`? " if found else ""
    return f"{fault.shown} is not known here", f"{hint}{fault.expected}"


def _pattern(fault: Fault) -> tuple[str, str]:
    if fault.field is not None and fault.context.get("pattern") == DNS_LABEL_PATTERN:
        slug = re.sub(r"[^a-z0-9]+", "-", str(fault.value).casefold()).strip("-")[:63].strip("-")
        hint = f"; `{slug}` would do" if slug else ""
        return f"{fault.shown} is not a name that Kubernetes takes", f"{fault.expected}{hint}"
    if not str(fault.value).strip():
        return "is blank", _fill(fault)
    return f"{fault.shown} is not written as it should be", fault.expected


def _bound(word: str) -> Sentence:
    return lambda fault: (f"{fault.shown} is {word}", fault.expected)


def _finite(fault: Fault) -> tuple[str, str]:
    return f"{fault.shown} is not a finite number", fault.expected


def _short_list(fault: Fault) -> tuple[str, str]:
    least = fault.context.get("min_length", 1)
    if fault.value == []:
        optional = fault.field is not None and not fault.field.required
        return "is an empty list", f"{'remove it, or ' if optional else ''}give at least {least}"
    return "has too few items", f"give at least {least}"


def _long_list(fault: Fault) -> tuple[str, str]:
    return "has too many items", f"give at most {fault.context.get('max_length')}"


def _short_text(fault: Fault) -> tuple[str, str]:
    return "is empty" if fault.value == "" else f"{fault.shown} is too short", fault.expected


def _long_text(fault: Fault) -> tuple[str, str]:
    return (
        f"is {len(str(fault.value)):,} characters long",
        f"give at most {fault.context.get('max_length')} characters",
    )


def _broken_text(fault: Fault) -> tuple[str, str]:
    return f"{fault.shown} holds half of a character", "write the character itself, as UTF-8"


def _own_words(fault: Fault) -> tuple[str, str]:
    if fault.field is not None and fault.field.is_choice:
        return _choice(fault)
    return f"{fault.shown}: {fault.context.get('error')}", fault.expected


def _key(fault: Fault) -> tuple[str, str]:
    return f"{fault.shown} cannot be a name here", "give a name of 1 to 253 visible characters"


SENTENCES: dict[str, Sentence] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "string_type": _not_text,
    "string_unicode": _broken_text,
    "string_too_short": _short_text,
    "string_too_long": _long_text,
    "string_pattern_mismatch": _pattern,
    "int_type": _not_a_number,
    "float_type": _not_a_number,
    "finite_number": _finite,
    "bool_type": _not_true_or_false,
    "greater_than": _bound("too small"),
    "greater_than_equal": _bound("too small"),
    "less_than": _bound("too large"),
    "less_than_equal": _bound("too large"),
    "list_type": _list,
    "dict_type": _block,
    "model_type": _block,
    "invalid_key": _key,
    "too_short": _short_list,
    "too_long": _long_list,
    "literal_error": _choice,
    "value_error": _own_words,
}
"""The sentence for every type of error that validating a job can give."""


def without_echoes(issues: list[Issue]) -> list[Issue]:
    """A missing field is not told when an unknown one beside it was meant to be it."""
    meant = {
        (*issue.path[:-1], name)
        for issue in issues
        if issue.kind == "extra_forbidden"
        for name in re.findall(r"did you mean `(\w+)`", issue.remedy)
    }
    return [issue for issue in issues if issue.kind != "missing" or issue.path not in meant]
