"""``python -m benchmarks [--quick] [--only NAME ...]``: measure and print one table."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import tempfile
from pathlib import Path

from benchmarks.scale import full, quick
from benchmarks.table import Row, print_table
from tunefleet.train.environment import process_environment

NAMES = (
    "throughput",
    "tokenising",
    "command",
    "start",
    "memory",
    "quality",
    "gpu",
    "checkpoints",
    "slowdown",
    "recovery",
    "history",
    "burst",
    "pick_up",
    "trainer",
    "writes",
    "controller_scale",
    "failover",
)


def main() -> None:
    """Measure what was asked for, in this order, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, one pair each")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument(
        "--pictures",
        type=Path,
        default=Path("runs") / "benchmarks",
        metavar="FOLDER",
        help="where to draw how the controller grows (default: %(default)s)",
    )
    asked = parser.parse_args()
    # Both sides inherit threads and malloc settings from here, and see no hub.
    os.environ.update(process_environment(threads=1))
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tfb-") as scratch:
        scale = (quick if asked.quick else full)(Path(scratch), asked.pictures)
        for name in asked.only:
            for row in importlib.import_module(f"benchmarks.{name}").measure(scale):
                rows.append(row)
                print(f"  {row.line()}", flush=True)
    cores, system = os.cpu_count(), f"{platform.system()} {platform.machine()}"
    print_table(rows, title=f"tunefleet beside its peers ({cores} cores, {system})")


if __name__ == "__main__":
    main()
