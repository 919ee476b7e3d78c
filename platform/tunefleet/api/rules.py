"""Rules between fields that need more than a line: sources, columns, labels, metrics, names.

Decides which combinations of a job file contradict themselves, and words the remedy. Each
function yields :class:`~tunefleet.api.base.Rule`; the models in ``api.job`` call them.
Imports ``api`` alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tunefleet.api.base import Check, Rule
from tunefleet.api.suggest import did_you_mean
from tunefleet.api.tasks import TaskDeclaration, TaskOptions, declarations

_LABEL_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ANNOTATION_BYTES = 262_144

_MLFLOW = {"databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite"}


@dataclass(frozen=True, slots=True)
class ExactlyOne:
    """Of some fields exactly one must be there."""

    names: tuple[str, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """That one is there, then what excludes what, in the order of :meth:`broken`."""
        return (self._needed, *self._excluded.values())

    def broken(self, *given: object) -> Iterator[Rule]:
        """What is broken when the fields have these values (None: absent)."""
        named = [name for name, value in zip(self.names, given, strict=True) if value is not None]
        if not named:
            yield self._needed.broken()
        for other in named[1:]:
            yield self._excluded[named[0], other].broken()

    @property
    def _needed(self) -> Check:
        names = " or ".join(self.names)
        holds = " || ".join(f"has(self.{name})" for name in self.names)
        return Check(holds, f"needs {names}", (), f"add exactly one of {names}", self._reads)

    @property
    def _excluded(self) -> dict[tuple[str, str], Check]:
        found = {}
        for index, first in enumerate(self.names):
            # The first one that is there excludes all others.
            earlier = "".join(f" || has(self.{name})" for name in self.names[:index])
            for other in self.names[index + 1 :]:
                found[first, other] = Check(
                    f"!has(self.{first}) || !has(self.{other}){earlier}",
                    f"excludes {first}",
                    (other,),
                    f"keep exactly one of {first} and {other}",
                    self._reads,
                )
        return found

    @property
    def _reads(self) -> tuple[tuple[str, ...], ...]:
        return tuple((name,) for name in self.names)


_FILES = (("uri",), ("hub",), ("fraction",), ("format",))
_WITHOUT_FILES = {
    key: Check(
        f"has(self.uri) || {absent}",
        "has no effect without uri",
        (key,),
        f"remove {key}",
        (*_FILES, (key,)),
    )
    for key, absent in {
        "format": "!has(self.format)",
        "encoding": "self.encoding == 'utf-8'",
        "delimiter": "!has(self.delimiter)",
    }.items()
}
_BINARY = Check(
    "!has(self.uri) || !has(self.format) || !(self.format in ['parquet', 'arrow']) "
    "|| self.encoding == 'utf-8'",
    "has no effect with format: {format}",
    ("encoding",),
    "remove it",
    _FILES,
    {"format": "self.format"},
)
_NOT_CELLS = Check(
    "!has(self.uri) || !has(self.delimiter) || !has(self.format) || self.format == 'csv'",
    "has no effect with format: {format}",
    ("delimiter",),
    "remove it, or set format: csv",
    _FILES,
    {"format": "self.format"},
)
_SEPARATES = Check(
    "!has(self.delimiter) || !self.delimiter.matches('[\"\\r\\n\\\\x00]')",
    "a quote or a line break cannot separate cells",
    ("delimiter",),
    'give one character such as ";"',
    (("delimiter",),),
)
FILE_CHECKS = (*_WITHOUT_FILES.values(), _BINARY, _NOT_CELLS, _SEPARATES)


def file_options(
    uri: str | Sequence[str] | None,
    form: str | None,
    encoding: str,
    delimiter: str | None,
    *,
    files: bool,
) -> Iterator[Rule]:
    """How files are read: options that need files, and that fit the format."""
    given = {
        "format": form is not None,
        "encoding": encoding != "utf-8",
        "delimiter": delimiter is not None,
    }
    for key, is_given in given.items():
        if is_given and not files:
            yield _WITHOUT_FILES[key].broken()
    if files and given["encoding"] and form in {"parquet", "arrow"}:
        yield _BINARY.broken(format=str(form))
    elif files and not _is_encoding(encoding):
        yield Rule(
            f"{encoding!r} is not a text encoding that is known here",
            ("encoding",),
            "give a name such as utf-8, latin-1 or cp1252",
            (("encoding",),),
        )
    if files and given["delimiter"] and form not in {None, "csv"}:
        yield _NOT_CELLS.broken(format=str(form))
    if delimiter is not None and delimiter in '"\r\n\x00':
        yield _SEPARATES.broken()
    if uri is not None and not isinstance(uri, str):
        yield from distinct("uri", uri)


def _is_encoding(name: str) -> bool:
    try:
        # Refuses codecs such as hex or zlib too, which turn bytes into bytes.
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        return False
    return True


def distinct(key: str, items: Sequence[str]) -> Iterator[Rule]:
    """No item of a list stands there twice."""
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        if item in seen:
            yield Rule(
                f"`{item}` is already listed as item {seen[item] + 1}",
                (key, index),
                "remove one of the two",
                ((key,),),
            )
        else:
            seen[item] = index


HELD_OUT_SHARE = Check(
    "!has(self.validation.fraction) || !has(self.test) || !has(self.test.fraction) "
    "|| self.validation.fraction + self.test.fraction < 1.0",
    "leaves no rows to train on beside validation.fraction",
    ("test", "fraction"),
    "let the two fractions stay below 1 together; 0.1 each is usual",
    (("validation", "fraction"), ("test", "fraction")),
)


def held_out_share(validation: float | None, test: float | None) -> Iterator[Rule]:
    """Fractions that are held out must leave rows to train on."""
    if validation is not None and test is not None and validation + test >= 1:
        yield HELD_OUT_SHARE.broken()


def known_task(task: str) -> str:
    """The task's name when there is such a task; raises ``ValueError`` with those there are."""
    if task not in declarations():
        hint = did_you_mean(task, declarations())
        raise ValueError(
            f"{task!r} is not a task; {hint + ' ' if hint else ''}"
            f"known are {', '.join(declarations())}"
        )
    return task


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics that a task reports with given options."""

    declaration: TaskDeclaration
    options: TaskOptions

    def named(self, at: tuple[str, ...], name: str | None) -> Iterator[Rule]:
        """A metric that a field names must be one of them."""
        known = [metric.name for metric in self.declaration.metrics(self.options)]
        if name is not None and name not in known:
            hint = did_you_mean(name, known)
            yield Rule(
                f"{name!r} is not a metric of this {self.declaration.name} job",
                at,
                f"{hint + ' ' if hint else ''}it reports {', '.join(known)}",
                (at, ("task",), (self.declaration.field_name,)),
            )

    def bounded(
        self, at: tuple[str, ...], name: str, *, low: float | None, high: float | None
    ) -> Iterator[Rule]:
        """A gate bounds a metric on its bad side, else it would stop the better models."""
        for metric in self.declaration.metrics(self.options):
            wrong, right = ("max", "min") if metric.higher else ("min", "max")
            given = low if wrong == "min" else high
            other = high if wrong == "min" else low
            if metric.name == name and given is not None and other is None:
                better = "higher" if metric.higher else "lower"
                yield Rule(
                    f"{wrong} would stop the better models: {better} is better for {name}",
                    (*at, wrong),
                    f"write {right}: {given:g}",
                    (at, ("task",), (self.declaration.field_name,)),
                )


def columns(
    declaration: TaskDeclaration, options: TaskOptions, given: Mapping[str, str]
) -> Iterator[Rule]:
    """``columns`` maps what the task reads (left) to the data's column names (right)."""
    known = {column.name: column for column in declaration.columns(options)}
    reads = (("data", "columns"), ("task",), (declaration.field_name,))
    turned = [key for key, value in given.items() if key not in known and value in known]
    for key in given:
        if key in known:
            continue
        if key in turned:
            remedy = f"it stands the wrong way round; write `{given[key]}: {key}`"
        else:
            hint = did_you_mean(key, known)
            remedy = f"{hint + ' ' if hint else ''}it reads {', '.join(known)}"
        yield Rule(
            f"{declaration.name} reads no column {key!r} with these options",
            ("data", "columns", key),
            remedy,
            reads,
        )
    source_of: dict[str, str] = {}
    for name, column in known.items():
        if name not in given and not column.required:
            continue
        source = given.get(name, name)
        if source in source_of and not turned:
            mapped = name if name in given else source_of[source]
            yield Rule(
                f"the data's column {source!r} would be read both as {source_of[source]} "
                f"and as {name}",
                ("data", "columns", mapped),
                f"map {source_of[source]} and {name} to two columns",
                reads,
            )
        source_of.setdefault(source, name)


def labels(
    declaration: TaskDeclaration, options: TaskOptions, given: Sequence[str] | None
) -> Iterator[Rule]:
    """Label names belong to tasks with labels, and there must be enough of them."""
    reads = (("data", "labels"), ("task",), (declaration.field_name,))
    if given is None:
        return
    if not declaration.labelled(options):
        yield Rule(
            f"this {declaration.name} job has no labels",
            ("data", "labels"),
            "remove data.labels",
            reads,
        )
    elif len(given) < declaration.minimum_labels(options):
        yield Rule(
            f"{len(given)} label is not enough to tell anything apart",
            ("data", "labels"),
            f"name at least {declaration.minimum_labels(options)}, or remove data.labels "
            "to have them read from the data",
            reads,
        )


def kubernetes_labels(given: Mapping[str, str]) -> Iterator[Rule]:
    """Keys and values that a Kubernetes API server accepts as labels."""
    for key, value in given.items():
        yield from _qualified("labels", key)
        if value and not _LABEL_PART.fullmatch(value):
            yield Rule(
                f"{value!r} is not a label value",
                ("labels", key),
                "use at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends",
                (("labels",),),
            )


def kubernetes_annotations(given: Mapping[str, str]) -> Iterator[Rule]:
    """Keys that a Kubernetes API server accepts, and no more text than it stores."""
    for key in given:
        yield from _qualified("annotations", key)
    size = sum(len((key + value).encode("utf-8", "replace")) for key, value in given.items())
    if size > _ANNOTATION_BYTES:
        yield Rule(
            f"{size:,} bytes of annotations; at most {_ANNOTATION_BYTES:,} can be stored",
            ("annotations",),
            "keep long texts in a file",
            (("annotations",),),
        )


def _qualified(block: str, key: str) -> Iterator[Rule]:
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_PART.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        yield Rule(
            f"{key!r} is not a name that Kubernetes takes",
            (block, key),
            "write it like team or example.com/team: letters, digits, '-', '_' and '.'",
            ((block,),),
        )


_KNOWN_TRACKER = Check(
    f"self.uri.matches('^(?i:{'|'.join(sorted(_MLFLOW))})(?:[+][^:/?#]*)?:')",
    "is no MLflow server or database",
    ("uri",),
    "give https://host:port, or sqlite:///mlflow.db for a file beside the job",
)
_NO_SECRET = Check(
    # A password before the host; for a server a user's name is half of one.
    "!self.uri.matches('^[^:/?#]+://[^/?#]*:[^/?#]*@') "
    "&& !self.uri.matches('^(?i:https?)(?:[+][^:/?#]*)?://[^/?#@]+@')",
    "holds a secret",
    ("uri",),
    "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or _TOKEN) in the "
    "environment; a database's password in its own file or variable",
)
MLFLOW_CHECKS = (_KNOWN_TRACKER, _NO_SECRET)


def mlflow_uri(uri: str) -> Iterator[Rule]:
    """An MLflow server or database, without a password in it."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] not in _MLFLOW:
        yield _KNOWN_TRACKER.broken()
    elif parts.password is not None or (parts.scheme.startswith("http") and parts.username):
        yield _NO_SECRET.broken()
