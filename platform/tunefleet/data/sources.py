"""Which files a source names, and in which format each is written.

Decides how a ``uri`` (a path, ``file://``, a glob, or a list of them) becomes a sorted list
of files, and what format, encoding and delimiter each has: the given ones, or by the file's
ending. What lies in an object store was fetched by the caller. Reads folder listings only,
never a file. Imports ``api`` alone.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from tunefleet.api.job import HeldOutSpec, HubSource, SourceSpec
from tunefleet.api.support import in_store
from tunefleet.data.problems import Problems

Remote = Mapping[str, Sequence[tuple[Path, str]]]
"""By a uri of an object store: the copies of what it names, each with its name for messages."""

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "text"]

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".text": "text",
}
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_BINARY = {"parquet", "arrow"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read. ``name`` is how messages call it."""

    path: Path
    name: str
    format: Format
    encoding: str
    delimiter: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: files in their reading order, or a hub data set."""

    files: tuple[SourceFile, ...] = ()
    hub: HubSource | None = None


def resolve(
    spec: SourceSpec | HeldOutSpec,
    base: Path,
    where: str,
    problems: Problems,
    remote: Remote | None = None,
) -> Source | None:
    """The files or the hub data set of a source; ``None`` after noting a problem."""
    if spec.hub is not None:
        return Source(hub=_local_hub(spec.hub, base))
    files: list[SourceFile] = []
    complete = True
    for position, uri in enumerate(uris(spec)):
        place = f"{where}.uri" if isinstance(spec.uri, str) else f"{where}.uri[{position}]"
        if in_store(uri):
            named = _copies(uri, remote or {}, place, problems)
        else:
            matches = _matches(uri, base, place, problems)
            named = [(path, _shown(path, base)) for path in matches]
        for path, name in named:
            found = _typed(path, name, spec, where, problems)
            complete = complete and found is not None
            if found is not None and all(found.path != other.path for other in files):
                files.append(found)
    return Source(files=tuple(files)) if files and complete else None


def _copies(uri: str, remote: Remote, where: str, problems: Problems) -> Sequence[tuple[Path, str]]:
    found = remote.get(uri, ())
    if not found:
        hint = "look at the bucket's listing; a folder is named by a pattern: s3://bucket/folder/*"
        problems.add("no file", f"no object matches {uri}", where=where, remedy=hint)
    return found


def uris(spec: SourceSpec | HeldOutSpec) -> list[str]:
    """The uris of a source, as they are written."""
    return [spec.uri] if isinstance(spec.uri, str) else list(spec.uri or [])


def _local_hub(hub: HubSource, base: Path) -> HubSource:
    """A hub name that is a folder beside the job file is read from there."""
    folder = base / hub.name
    if folder.is_dir():
        return hub.model_copy(update={"name": str(folder.resolve())})
    return hub


def local_path(uri: str, base: Path) -> Path:
    """The local path of a ``file://`` uri or of a path relative to ``base``."""
    if uri.startswith("file:"):
        return Path(unquote(urlsplit(uri).path))
    return base / Path(uri).expanduser()


def _shown(path: Path, base: Path) -> str:
    try:
        return str(path.relative_to(base))
    except ValueError:
        return str(path)


def _matches(uri: str, base: Path, where: str, problems: Problems) -> list[Path]:
    path = local_path(uri, base)
    if path.is_file():
        return [path]
    if path.is_dir():
        endings = sorted({p.suffix for p in path.iterdir() if p.suffix in ENDINGS})
        hint = f"write {uri.rstrip('/')}/*{endings[0]}" if endings else "name files, or a glob"
        problems.add("folder", f"{uri} is a folder", where=where, remedy=hint)
        return []
    found = sorted(
        Path(match) for match in glob.glob(str(path), recursive=True) if not Path(match).is_dir()
    )
    if not found:
        problems.add("no file", f"no file matches {uri}", where=where, remedy=_nearby(path, base))
    return found


def _nearby(path: Path, base: Path) -> str:
    """What stands near a path that is not there."""
    folder = path.parent
    while not folder.is_dir():
        path, folder = folder, folder.parent
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = _shown(folder, base)
    place = "beside the job file" if shown == "." else f"in {shown}"
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)} ({place})?"
    data = [name for name in names if Path(name).suffix in ENDINGS][:5]
    if data:
        return f"{place} there are: {', '.join(data)}"
    return f"{place} there is no data file; paths are relative to the job file"


def _typed(
    path: Path, name: str, spec: SourceSpec | HeldOutSpec, where: str, problems: Problems
) -> SourceFile | None:
    chosen = spec.format or ENDINGS.get(path.suffix.lower())
    if chosen is None:
        packed = path.suffix.lower() in _PACKED
        problems.add(
            "format",
            f"cannot tell the format of {path.name} by its ending",
            where=f"{where}.format",
            remedy="unpack the file first"
            if packed
            else "set format to csv, tsv, json, jsonl, parquet, arrow or text",
            file=name,
        )
        return None
    if spec.delimiter is not None and chosen != "csv":
        problems.add(
            "no effect",
            f"delimiter has no effect with {chosen} files",
            where=f"{where}.delimiter",
            remedy="remove it, or set format: csv",
        )
    if chosen in _BINARY and "encoding" in spec.model_fields_set:
        problems.add(
            "no effect",
            f"encoding has no effect with {chosen} files",
            where=f"{where}.encoding",
            remedy="remove it",
        )
    delimiter = "\t" if chosen == "tsv" else (spec.delimiter or ",")
    return SourceFile(path, name, chosen, spec.encoding, delimiter)
