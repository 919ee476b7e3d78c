"""Whether nothing was lost: a run's end beside that of a run without a fault.

Reads JSON and safetensors files by itself and imports nothing of tunefleet: what it says
cannot be wrong in the same way as what it judges. What a run did is taken from the log of
its writes and of the samples that passed backward, both written beside the loop.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

Events = list[dict[str, Any]]
Writer = tuple[int, int]
TOLERANCE = 1e-12  # fp64; what DESIGN promises when the number of workers changes
_CHECKPOINT = re.compile(r"(\d+)-(\d+)\.(\d+)\.(\d+)-[0-9a-f]{6}")
_HALF = re.compile(r"#\d+$")
_MOVING = frozenset({"seconds", "uri", "path", "digest"})  # wall time and places may differ
RUN_FILES = frozenset({"RUN.json", "job.json", "plan.json", "facts.json"})
RUN_FOLDERS = frozenset({"attempts", "bundle", "checkpoints", "report"})
REPORT_FILES = frozenset({"README.md", "outcome.json", "report.html", "report.json", "result.json"})


@dataclass(frozen=True, slots=True)
class Start:
    """A start's record: which checkpoint it went on from ("" for none), and with how many."""

    writer: Writer
    workers: int
    step: int
    origin: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found wrong (nothing, if all is well), and what happened."""

    problems: list[str]
    fired: bool
    resumed: list[int]
    redone: int
    same_bits: bool


def lines(path: Path) -> Events:
    """A log, line by line."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class RunFiles:
    """A run's folder, read without tunefleet."""

    def __init__(self, store: Path) -> None:
        self.store = store
        job = store / "default" / "tiny"
        self.runs = sorted(path.name for path in job.glob("run-*"))
        finished = [name for name in self.runs if (job / name / "report/result.json").exists()]
        self.folder = job / (finished or self.runs or ["run-none"])[0]

    def json(self, name: str) -> dict[str, Any]:
        """A record."""
        found: dict[str, Any] = json.loads((self.folder / name).read_text())
        return found

    def starts(self) -> dict[Writer, Start]:
        """All starts by (attempt, start)."""
        found = {}
        for path in sorted(self.folder.glob("attempts/*/starts/*/START.json")):
            record = json.loads(path.read_text())
            writer = (record["attempt"], record["start"])
            origin = record["resumedFrom"] or ""
            found[writer] = Start(writer, record["workers"], record["resumedStep"], origin)
        return found

    def ends(self) -> dict[int, str]:
        """How attempts ended, by number."""
        paths = sorted(self.folder.glob("attempts/*/EXIT.json"))
        return {int(path.parent.name): json.loads(path.read_text())["phase"] for path in paths}

    def newest_checkpoint(self) -> Path:
        """The folder of the last checkpoint, which holds the final weights."""
        found = self.folder.glob("checkpoints/*/MANIFEST.json")
        return max((path.parent for path in found), key=lambda path: _mark(path.name))

    def tensors(self) -> dict[str, Any]:
        """Final weights and moments by name."""
        folder = self.newest_checkpoint()
        found = {}
        for kind in ("weights", "moments"):
            for name, tensor in safetensors.numpy.load_file(folder / f"{kind}.safetensors").items():
                found[f"{kind}:{name}"] = tensor
        return found


def judge(
    files: RunFiles, truth: dict[int, RunFiles], events: Events, samples: Events, every: int
) -> Verdict:
    """Hold a case's end against that of runs without a fault (by number of workers)."""
    starts = files.starts()
    counts = {start.workers for start in starts.values()}
    alike = len(counts) == 1
    problems = [
        *_end(files, events),
        *_same(files, truth[next(iter(counts)) if alike else 1], exact=alike),
        *_debris(files),
        *_samples_once(starts, samples, every),
        *_nothing_lost(starts, events),
    ]
    redone, late = _redone(starts, samples, events, every)
    fired = any(event["event"] in {"kill", "fault"} for event in events)
    resumed = [start.step for _, start in sorted(starts.items())][1:]
    return Verdict([*problems, *late], fired, resumed, redone, alike)


def _mark(name: str) -> tuple[int, int, int, int]:
    """(attempt, start, sequence, step) of a checkpoint's name."""
    match = _CHECKPOINT.fullmatch(name)
    assert match is not None, name
    step, attempt, start, sequence = map(int, match.groups())
    return attempt, start, sequence, step


def _end(files: RunFiles, events: Events) -> Iterator[str]:
    if len(files.runs) != 1:
        yield f"the job has {len(files.runs)} runs: {files.runs}"
    ends = files.ends()
    good = [attempt for attempt, phase in ends.items() if phase == "Succeeded"]
    if len(good) != 1:
        yield f"the run ended {len(good)} times: {ends}"
    unnumbered = Counter(event["op"] for event in events if event["event"] == "unnumbered")
    if unnumbered:
        yield f"writes that the harness does not number: {dict(unnumbered)}"
    result = files.json("report/result.json")
    if result["phase"] != "Succeeded" or not result["bundle"]:
        yield f"the result says {result['phase']}, bundle {result['bundle']}"


def _same(files: RunFiles, truth: RunFiles, *, exact: bool) -> Iterator[str]:
    """The same weights, moments, scores and history: to the bit, or within the tolerance."""
    found, expected = files.tensors(), truth.tensors()
    if found.keys() != expected.keys():
        yield "the last checkpoint holds other tensors"
        return
    for name, tensor in expected.items():
        if exact and not np.array_equal(found[name], tensor):
            gap = np.abs(found[name] - tensor).max()
            yield f"{name} is not the same to the bit (by {gap:.1e})"
            return
        if not np.allclose(found[name], tensor, rtol=1e-9, atol=TOLERANCE):
            gap = np.abs(found[name] - tensor).max()
            yield f"{name} differs by {gap:.1e}"
            return
    yield from _differences(
        files.json("report/outcome.json"), truth.json("report/outcome.json"), "outcome", exact
    )
    if exact:
        mine = files.json("report/outcome.json")["bundle"]["digest"]
        if mine != truth.json("report/outcome.json")["bundle"]["digest"]:
            yield "the bundle is another one"


def _differences(found: Any, expected: Any, where: str, exact: bool) -> Iterator[str]:
    if isinstance(expected, dict):
        if found.keys() != expected.keys():
            yield f"{where} has other fields"
            return
        for name in expected.keys() - _MOVING:
            yield from _differences(found[name], expected[name], f"{where}.{name}", exact)
    elif isinstance(expected, list):
        if len(found) != len(expected):
            yield f"{where} has {len(found)} entries instead of {len(expected)}"
            return
        for number, pair in enumerate(zip(found, expected, strict=True)):
            yield from _differences(*pair, f"{where}[{number}]", exact)
    elif isinstance(expected, float) and not exact:
        if not np.isclose(found, expected, rtol=1e-9, atol=TOLERANCE):
            yield f"{where} is {found!r} instead of {expected!r}"
    elif found != expected:
        yield f"{where} is {found!r} instead of {expected!r}"


def _debris(files: RunFiles) -> Iterator[str]:
    """Anything that belongs to nothing."""
    for path in sorted(files.store.rglob("*")):
        if _HALF.search(path.name):
            yield f"half-written: {path.relative_to(files.store)}"
    strangers = {path.name for path in files.store.iterdir()} - {"default"}
    if strangers:
        yield f"debris in the store: {sorted(strangers)}"
    unknown = {path.name for path in files.folder.iterdir()} - RUN_FILES - RUN_FOLDERS
    if unknown:
        yield f"debris in the run: {sorted(unknown)}"
    for folder in (files.folder / "checkpoints").iterdir():
        if not (folder / "MANIFEST.json").exists():
            yield f"a checkpoint without manifest: {folder.name}"
    kept = {path.name for path in (files.folder / "checkpoints").iterdir()}
    if len(kept) > 2:
        yield f"more checkpoints than keep asks for: {sorted(kept)}"
    digest = files.json("report/outcome.json")["bundle"]["digest"].removeprefix("sha256:")
    bundles = [path.name for path in (files.folder / "bundle").iterdir()]
    if len(bundles) != 1 or not digest.startswith(bundles[0]):
        yield f"bundles {bundles}, but the outcome names {digest[:12]}"
    reports = {path.name for path in (files.folder / "report").iterdir()}
    odd = {name for name in reports - REPORT_FILES if not name.startswith("scores-")}
    if odd or REPORT_FILES - reports:
        yield f"report/ holds {sorted(reports)}"


def surviving(starts: dict[Writer, Start], total: int) -> dict[int, Writer]:
    """For each step the start whose execution of it is in the surviving history."""
    found: dict[int, Writer] = {}
    writer: Writer | None = max(starts)
    upto = total
    while writer is not None:
        start = starts[writer]
        found |= {step: writer for step in range(start.step + 1, upto + 1)}
        if not start.origin:
            break
        upto = start.step
        mark = _mark(start.origin.split("/")[1])
        writer = mark[:2]
    return found


def _samples_once(starts: dict[Writer, Start], samples: Events, every: int) -> Iterator[str]:
    """Every id exactly once per epoch, over the executions that survived."""
    if not starts:
        yield "no start left a record"
        return
    total = max(line["step"] for line in samples)
    chosen = surviving(starts, total)
    if sorted(chosen) != list(range(1, total + 1)):
        yield f"the surviving chain covers steps {sorted(chosen)} of {total}"
    used: dict[int, Counter[int]] = {}
    logged: set[int] = set()
    for line in samples:
        if line["ids"] and chosen.get(line["step"]) == _claimed(line):
            logged.add(line["step"])
            used.setdefault(line["epoch"], Counter()).update(line["ids"])
    silent = sorted(chosen.keys() - logged)
    if silent:
        yield f"no sample is on record for the surviving executions of steps {silent}"
    everything = set().union(*used.values()) if used else set()
    for epoch, counter in sorted(used.items()):
        wrong = {i: n for i, n in counter.items() if n != 1}
        if wrong:
            yield f"epoch {epoch}: ids used more than once: {wrong}"
        if counter.keys() != everything:
            yield f"epoch {epoch}: {len(everything - counter.keys())} ids were never used"


def _claimed(line: dict[str, Any]) -> Writer:
    return (line["attempt"], line["claimed"])


def _commits(events: Events) -> list[tuple[float, Writer, int]]:
    """(time, writer, step) of every manifest whose write has returned."""
    found = []
    for event in events:
        if event["event"] == "end" and event["op"] == "create" and "MANIFEST" in event["key"]:
            name = event["key"].split("/")[-2].replace("-*", "-000000")
            attempt, start, _, step = _mark(name)
            found.append((event["t"], (attempt, start), step))
    return found


def _nothing_lost(starts: dict[Writer, Start], events: Events) -> Iterator[str]:
    """A start goes on from the newest checkpoint that stood when it claimed its number."""
    for writer, start in sorted(starts.items()):
        claim = f"attempts/{writer[0]:04d}/starts/{writer[1]:04d}/CLAIM"
        began = [e["t"] for e in events if e["event"] == "begin" and e["key"].endswith(claim)]
        if not began:
            continue
        stood = [step for t, other, step in _commits(events) if t < began[0] and other < writer]
        damaged = any(event["event"] == "damage" for event in events)
        if stood and start.step < max(stood) and not damaged:
            yield f"start {writer} went on from {start.step}; {max(stood)} had been committed"


def _redone(
    starts: dict[Writer, Start], samples: Events, events: Events, every: int
) -> tuple[int, list[str]]:
    """The most steps a start had to do again, and where that is more than is promised.

    One interval; while a checkpoint is being written the loop goes on up to the next one, so
    that a kill in that window costs what was done since the checkpoint before, two at most.
    """
    order = sorted(starts)
    worst, problems = 0, []
    for before, after in itertools.pairwise(order):
        # What an orphan or a sleeper does once its successor has begun is not done again.
        began = min((s["t"] for s in samples if _claimed(s) == after), default=float("inf"))
        mine = [s for s in samples if s["done"] and _claimed(s) == before and s["t"] < began]
        done = max((s["step"] for s in mine), default=0)
        again = max(0, done - starts[after].step)
        worst = max(worst, again)
        writing = _in_flight([e for e in events if e["t"] < began], before)
        limit = 2 * every if writing else every
        if again > limit and not any(event["event"] == "damage" for event in events):
            problems.append(f"start {after} did {again} steps again, {limit} are promised")
    return worst, problems


def _in_flight(events: Events, writer: Writer) -> bool:
    """Whether a start was writing a checkpoint when these events ended."""
    mine = f"-{writer[0]}.{writer[1]}."
    seen = {
        e["key"].split("/")[-2] for e in events if mine in e.get("key", "") and e["op"] == "write"
    }
    done = {
        e["key"].split("/")[-2]
        for e in events
        if e["event"] == "end" and e["op"] == "create" and mine in e["key"]
    }
    return bool(seen - done)
