"""``python -m tests.faults``: the whole matrix, a line per fault; exit code 1 on a violation."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults import life, matrix, zygote
from tests.faults.matrix import Bench, Row
from tests.faults.troubles import troubles


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--store", choices=["file", "s3"], action="append")
    parser.add_argument("--quick", action="store_true", help="every tenth case")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose name holds a text")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--random", type=int, default=100, help="kills at random moments")
    given = parser.parse_args()
    bad = 0
    for store in given.store or ["file", "s3"]:
        began = time.monotonic()
        with bench(store, given.jobs) as found:
            found.learn()
            rows = list(_rows(found, store, given))
        print(table(store, len(found.writes), rows, time.monotonic() - began), flush=True)
        bad += sum(bool(row.verdict.problems) for row in rows)
    return 1 if bad else 0


@contextlib.contextmanager
def bench(store: str, jobs: int) -> Iterator[Bench]:
    """A site on a store of this kind, with its fork server."""
    from tests.faults.stores import open_place

    with tempfile.TemporaryDirectory(prefix="tf-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        life.make_site(folder)
        with (
            open_place(store, folder) as place,
            zygote.running(folder / "model", life.environment(folder) | place.environment) as at,
        ):
            yield Bench(life.Site(at, folder, place.uri), place.fetch, jobs, place.server)


def _rows(found: Bench, store: str, given: argparse.Namespace) -> Iterator[Row]:
    cases = [
        *matrix.enumerated(found.writes),
        *matrix.at_random(2026, given.random, found.longest),
    ]
    cases = [(fault, case) for fault, case in cases if _is_asked_for(case.name, given)]
    if given.quick:
        cases = cases[:: max(1, len(cases) // 40)]
    known = troubles(store, quick=given.quick)
    others = [each for each in known if _is_asked_for(each.name, given)]
    # (What is done to the server itself is done when nobody else uses it.)
    rows = itertools.chain(found.run(cases), (each.run(found) for each in others))
    for number, row in enumerate(rows, 1):
        said = "; ".join(row.verdict.problems) or "ok"
        done = f"{number}/{len(cases) + len(others)}"
        print(f"{done} {row.name} {row.seconds:.1f} s: {said}", file=sys.stderr)
        yield row


def _is_asked_for(name: str, given: argparse.Namespace) -> bool:
    return any(part in name for part in given.only)


def table(store: str, writes: int, rows: list[Row], seconds: float) -> str:
    """A line per fault."""
    lines = [
        f"### {store}: {len(rows)} cases, {writes} storage writes in a run, {seconds / 60:.0f} min",
        "",
        "| fault | cases | violations | resumed above 0 | same bits | most steps redone "
        "| kill → next step, median (worst) s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for fault in dict.fromkeys(row.fault for row in rows):
        mine = [row for row in rows if row.fault == fault]
        times = [row.recovery for row in mine if row.recovery is not None]
        shown = f"{statistics.median(times):.1f} ({max(times):.1f})" if times else "–"
        lines.append(
            f"| {fault} | {len(mine)} | {sum(bool(r.verdict.problems) for r in mine)} "
            f"| {sum(max(r.verdict.resumed, default=0) > 0 for r in mine)} "
            f"| {sum(r.verdict.same_bits for r in mine)} "
            f"| {max((r.verdict.redone for r in mine), default=0)} | {shown} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
