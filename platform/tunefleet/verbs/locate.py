"""Reads YAML 1.2 into plain values and remembers where each one stands.

Decides what a document may hold: one document, text keys, no key twice, no tags, no merge
keys, bounded size and depth. Scalars follow YAML 1.2's core schema, so ``2e-5`` is a number
and ``yes`` is text. Imports ``api`` and ruamel.yaml alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from tunefleet.api.errors import Problem
from tunefleet.api.fields import Path, dotted

LARGEST_FILE = 2**20
DEEPEST = 40
MOST_NODES = 120_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_DIGITS = 400
_SMALLER = "a job file is a few dozen lines; keep data in files of its own"

_CORE_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ["str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value"]
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: file (or the ``--set`` it came from), line, its own text.

    ``plain`` is True for a scalar without quotes. ``line`` is the key's line where the value
    has a key. ``key_plain`` is True for a key without quotes.
    """

    file: str
    line: int | None
    raw: str | None = None
    plain: bool = False
    key_plain: bool = False


@dataclass(slots=True)
class Located:
    """A document: its value, the place of every part of it, and what is wrong already."""

    value: object
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """The place of a path, or of the nearest block around it that exists."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found if length == len(path) else replace(found, raw=None, plain=False)
        return Place("", None)


def read_document(text: str, file: str, *, under: Path = (), line: int | None = 1) -> Located:
    """Parse one YAML document. ``line=None`` for a text without lines (a ``--set`` value).

    ``under`` is where the document belongs in a larger one; problems name it.
    """
    where = dotted(under)
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except (YAMLError, RecursionError, ValueError, UnicodeError) as error:
        return Located(None, problems=[_syntax(error, text, file, where, line)])
    if root is None:
        message = "the file is empty" if line is not None else "there is no value"
        remedy = "`tunefleet init data.csv` writes a job file to start from" if line else ""
        return Located(None, problems=[Problem(message, where, remedy, file)])
    reader = _Reader(file, under, line is not None)
    try:
        reader.located.value = reader.read(root, (), 0)
    except _TooMuchError as error:
        message = "lists or blocks are nested too deeply, or there are too many of them"
        return Located(None, problems=[Problem(message, where, _SMALLER, file, error.line)])
    return reader.located


class _TooMuchError(Exception):
    """An alias that multiplies itself, or brackets without end."""

    def __init__(self, line: int | None) -> None:
        self.line = line
        super().__init__(line)


class _Reader:
    """Builds plain values from YAML's nodes and notes their places."""

    def __init__(self, file: str, under: Path, lines: bool) -> None:
        self.file = file
        self.under = under
        self.lines = lines
        self.located = Located(None)
        self.count = 0

    def read(self, node: Node, path: Path, depth: int, key: Node | None = None) -> object:
        self.count += 1
        if depth > DEEPEST or self.count > MOST_NODES:
            raise _TooMuchError(self.line(node))
        plain = isinstance(node, ScalarNode) and node.style is None
        self.located.places[path] = Place(
            self.file,
            self.line(key or node),
            raw=node.value if isinstance(node, ScalarNode) else None,
            plain=plain,
            key_plain=isinstance(key, ScalarNode) and key.style is None,
        )
        if str(node.tag) not in _CORE_TAGS:
            self.problem(
                f"the tag {node.tag!s} is not taken", path, node, "remove it; write plain values"
            )
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [
                self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)
            ]
        return self.scalar(node, path) if plain else node.value

    def mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, object]:
        built: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or str(key.tag).endswith(":merge"):
                what = (
                    "a merge key (<<)" if isinstance(key, ScalarNode) else "a key that is no text"
                )
                self.problem(f"{what} is not taken", path, key, "write every field out")
                continue
            name = str(key.value)
            if key.style is None and not isinstance(scalar_value(name), str):
                self.problem(
                    f"the key {name or 'of this line'} is not text",
                    (*path, name),
                    key,
                    f'put quotes round it: "{name}"',
                )
            elif name in built:
                first = self.located.places[(*path, name)].line
                at = f"; it is already there in line {first}" if first is not None else ""
                self.problem(f"given twice{at}", (*path, name), key, "keep one of the two")
            else:
                built[name] = self.read(value, (*path, name), depth + 1, key)
        return built

    def scalar(self, node: Node, path: Path) -> object:
        value = scalar_value(node.value)
        if value is _TOO_LONG:
            self.problem("a number of that many digits is not taken", path, node, "shorten it")
            return None
        return value

    def line(self, node: Node) -> int | None:
        return node.start_mark.line + 1 if self.lines else None

    def problem(self, message: str, path: Path, node: Node, remedy: str) -> None:
        self.located.problems.append(
            Problem(message, dotted((*self.under, *path)), remedy, self.file, self.line(node))
        )


class _TooLong:
    """Stands for a number with more digits than anybody means."""


_TOO_LONG = _TooLong()


def scalar_value(raw: str) -> object:
    """The value of an unquoted scalar in YAML 1.2's core schema."""
    if _NULL.fullmatch(raw):
        return None
    if raw in _BOOL:
        return _BOOL[raw]
    based = _BASED.fullmatch(raw)
    if (based or _FLOAT.fullmatch(raw)) and len(raw) > _DIGITS:
        return _TOO_LONG
    if _INT.fullmatch(raw):
        return int(raw)
    if based:
        return int(based[1], 8) if based[1] else int(based[2], 16)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    infinite = _INFINITE.fullmatch(raw)
    if infinite:
        return float(f"{infinite[1]}inf")
    return float("nan") if _NAN.fullmatch(raw) else raw


def scalars(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value that is neither a list nor a block, with its path."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from scalars(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from scalars(below, (*path, index))
    else:
        yield path, value


def _syntax(error: Exception, text: str, file: str, where: str, first: int | None) -> Problem:
    line: int | None = None
    if isinstance(error, RecursionError):
        return Problem("lists or blocks are nested too deeply", where, _SMALLER, file)
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1 if first is not None else None
        message = f"the character U+{ord(text[error.position]):04X} is not taken in YAML"
        return Problem(message, where, "remove it, or write it in quotes as \\u…", file, line)
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None and first is not None else None
        stated = str(error.problem or error.context or "it cannot be read")
        message, remedy = _plain_words(stated, str(error.context or ""))
        return Problem(message, where, remedy, file, line)
    return Problem(f"not readable as YAML: {error}", where, "put the text in quotes", file)


_WORDS = (
    (r"found character '\\t'", "a tab stands where spaces are expected", "indent with spaces"),
    (
        "but found another document",
        "several documents (---) in one file",
        "keep one job to a file",
    ),
    (
        "mapping values are not allowed",
        "a colon stands where no field can begin",
        'put the text in quotes when it contains ": ", or check the indentation of this line',
    ),
    (
        "found undefined alias|alias",
        "an * begins an alias (*name) here, which is not known",
        'put the text in quotes when it begins with "*"',
    ),
    (
        "found unexpected end of stream|unexpected document separator",
        "a quote is opened and not closed",
        "close the quote",
    ),
    (
        r"expected ',' or '[\]}]'",
        "a list [ ] or block { } is opened and not closed, or a comma is missing",
        "close it, or add the comma",
    ),
    (
        "expected <block end>",
        "the indentation does not fit the lines above",
        "let fields of one block begin in the same column",
    ),
    (
        "could not find expected ':'",
        "a field without a colon",
        "write `field: value`, with a space after the colon",
    ),
    (
        "cannot start any token",
        "the value begins with a character that YAML keeps for itself",
        "put the value in quotes",
    ),
    (
        "unknown escape character",
        "a backslash in double quotes begins an escape that does not exist",
        "use single quotes, or write the backslash twice",
    ),
)


def _plain_words(stated: str, context: str) -> tuple[str, str]:
    for pattern, message, remedy in _WORDS:
        if re.search(pattern, stated):
            return message, remedy
    around = f" ({context})" if context else ""
    return f"not readable as YAML: {stated}{around}", "check quotes, colons and indentation"
