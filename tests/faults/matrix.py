"""The matrix: every write of a run, every moment, every victim; and what came of it.

Decides which kills there are. A run without a fault lists its writes; then every one of them
is met before, during (where a disk would keep half a file) and after. Kills before a write
are followed by other numbers of workers, the others by the same number, so that both the
tolerance and the bits are held.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import injection, life, oracle
from tests.faults.injection import Arm
from tests.faults.life import Case, Ran, Site
from tests.faults.oracle import RunFiles, Verdict
from tests.testbed.s3 import S3Server

KINDS = {
    "writer": "kill -9 of the writing worker",
    "peer": "kill -9 of another worker",
    "driver": "kill -9 of the driver; its workers go on as orphans",
    "group": "kill -9 of driver and workers at once",
}


@dataclass(frozen=True, slots=True)
class Write:
    """A storage write of a run: whose, its number, what and where."""

    role: str
    rank: int
    number: int
    op: str
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One case that was judged. ``recovery`` is from the kill to the next step, in seconds."""

    fault: str
    name: str
    verdict: Verdict
    seconds: float
    recovery: float | None


@dataclass(slots=True)
class Bench:
    """A site with the ends of runs that nothing disturbed; its server, where it has one."""

    site: Site
    fetch: Callable[[Ran], Path]
    jobs: int = 1
    server: S3Server | None = None
    truth: dict[int, RunFiles] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    longest: float = 0.0

    def learn(self, worlds: tuple[int, ...] = (1, 2, 3)) -> None:
        """Run without a fault on so many workers; list the writes."""
        for world in worlds:
            case = Case(f"free-{world}", [world])
            ran = life.live(self.site, case, self.folder(case))
            assert not ran.problems, (ran.problems, _output(ran))
            self.truth[world] = RunFiles(self.fetch(ran))
            found = [
                Write(e["role"], e["rank"], e["n"], e["op"], e["key"])
                for e in ran.events
                if e["event"] == "begin"
            ]
            if self.writes and _shape(found) != _shape(self.writes):
                raise AssertionError("runs on other numbers of workers write other things")
            self.writes = found
            born = [e["t"] for e in ran.events if e["event"] == "born" and e["role"] == "worker"]
            self.longest = max(self.longest, ran.events[-1]["t"] - min(born))

    def judge(self, ran: Ran, fault: str) -> Row:
        """Hold a case against the truth; its folder goes when all is well."""
        samples = oracle.lines(ran.folder / injection.SAMPLES)
        try:
            files = RunFiles(self.fetch(ran))
            found = oracle.judge(files, self.truth, ran.events, samples, life.EVERY)
        except Exception as error:
            found = Verdict([f"cannot be judged: {error!r}"], True, [], 0, False)
        problems = ran.problems + found.problems
        if not found.fired:
            problems.append("the fault did not happen")
        found = Verdict(problems, found.fired, found.resumed, found.redone, found.same_bits)
        if not problems:
            shutil.rmtree(ran.folder)
        return Row(fault, ran.case.name, found, ran.seconds, _recovery(ran, samples))

    def run(self, cases: Iterable[tuple[str, Case]]) -> Iterator[Row]:
        """Run cases, ``jobs`` at a time."""

        with ThreadPoolExecutor(self.jobs) as pool:
            yield from pool.map(lambda named: self.one(*named), cases)

    def one(self, fault: str, case: Case) -> Row:
        """Run and judge a case. A run that ended before its random moment is run again."""
        ran = life.live(self.site, case, self.folder(case))
        if case.arm and case.arm.after_seconds and not ran.fired:
            shutil.rmtree(ran.folder)
            sooner = dataclasses.replace(case.arm, after_seconds=case.arm.after_seconds / 2)
            return self.one(fault, dataclasses.replace(case, name=f"{case.name}+", arm=sooner))
        return self.judge(ran, fault)

    def write_of(self, part: str) -> int:
        """The number of a worker's first write whose key holds ``part``."""
        return next(w.number for w in self.writes if w.role == "worker" and part in w.key)

    def folder(self, case: Case) -> Path:
        """Where a case lives."""
        return self.site.folder / "cases" / case.name


def enumerated(writes: list[Write]) -> Iterator[tuple[str, Case]]:
    """Every write, every moment, every victim that makes sense there."""
    for write in writes:
        for when in ("before", "during", "after"):
            for victim in _victims(write, when):
                yield f"{KINDS[victim]}, {when} write k", _case(write, when, victim)


def _victims(write: Write, when: str) -> list[str]:
    if write.role == "driver":  # no worker lives when the driver writes
        return ["group"] if when != "during" or write.op in {"write", "create"} else []
    if when == "during":
        return ["group"] if write.op in {"write", "create"} else []
    return ["writer", "group", "driver"] + (["peer"] if when == "after" else [])


def _case(write: Write, when: str, victim: str) -> Case:
    first = 1 + write.number % 3
    if victim == "peer":
        first = 2 + write.number % 2
    other = when == "before"
    return Case(
        name=f"{write.role}{write.number:02d}-{when}-{victim}",
        worlds=[first, first % 3 + 1] if other else [first],
        arm=Arm(write.role, write.rank, write.number, when, victim),
        rotate=other,
    )


def at_random(seed: int, count: int, longest: float) -> Iterator[tuple[str, Case]]:
    """Kills at moments of their own, spread over a worker's life."""
    for number, moment in enumerate(injection.moments(seed, count, 0.9 * longest)):
        victim = ("writer", "group", "driver", "peer")[number % 4]
        first = 2 + number % 2 if victim == "peer" else 1 + number % 3
        yield (
            f"{KINDS[victim]}, at a random moment",
            Case(
                name=f"random{number:03d}-{victim}",
                worlds=[first, first % 3 + 1] if number % 2 else [first],
                arm=Arm("worker", 0, victim=victim, after_seconds=moment),
                rotate=bool(number % 2),
                grace=0.05 * (number % 5),
            ),
        )


def _shape(writes: list[Write]) -> list[tuple[str, int, str, str]]:
    return [(w.role, w.rank, w.op, w.key.split("/")[-1]) for w in writes]


def _recovery(ran: Ran, samples: oracle.Events) -> float | None:
    kills = [event["t"] for event in ran.events if event["event"] == "kill"]
    own = {(e["life"], e["start"]) for e in ran.events if e["event"] == "kill"}
    after = [
        line["t"]
        for line in samples
        if kills and line["t"] > kills[0] and (line["life"], line["start"]) not in own
    ]
    return min(after) - kills[0] if after else None


def _output(ran: Ran) -> str:
    path = ran.folder / "output.txt"
    return path.read_text()[-4000:] if path.exists() else ""
