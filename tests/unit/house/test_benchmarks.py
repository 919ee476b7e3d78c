"""The arithmetic of the benchmark's table, and the observer's on a process with known work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.table import Row, print_table
from benchmarks.watch import ChildFailed, watch
from tests.unit.house.tree import ROOT

STEPS = """
import json, sys, time
from pathlib import Path
for step in range(1, 5):
    time.sleep(0.2)
    with Path(sys.argv[1]).open("a") as file:
        file.write(json.dumps({"step": step, "units": 8, "tokens": 100}) + "\\n")
if len(sys.argv) > 2:
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("x", "s", [2, 2], [1, 2], goal=1.4), "met"),
        (Row("x", "s", [1, 1], [1, 2], goal=1.4), "MISSED"),
        (Row("x", "s", [1], [2], better="lower", goal=2.0), "met"),
        (Row("x", "s", [0.2], better="lower", limit=0.3), "met"),
        (Row("x", "s", [0.4], better="lower", limit=0.3), "MISSED"),
        (Row("x", "s", [1], [1]), ""),
    ],
    ids=[
        "the median of ratios decides",
        "a median below the goal is missed",
        "where lower is better the ratio is turned over",
        "a limit is on the value itself",
        "above the limit is missed",
        "without a goal there is no verdict",
    ],
)
def test_a_goal_is_held_against_the_median(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_the_table_says_values_ratios_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Row("speed", "samples/s", [30, 33], [20, 20], "them", goal=1.4)], title="all")
    printed = capsys.readouterr().out
    for cell in ("speed", "samples/s", "31.5", "20", "them", "1.57×", "1.50–1.65", "≥ 1.4×", "met"):
        assert cell in printed


def test_a_stretch_of_steps_is_measured_from_outside(tmp_path: Path) -> None:
    watched = watch(
        [sys.executable, "-c", STEPS, str(tmp_path / "steps.jsonl")],
        scratch=tmp_path,
        steps="*.jsonl",
        between=(1, 3),
    )
    assert watched.stretch is not None
    assert (watched.stretch.samples, watched.stretch.tokens) == (16, 200)
    assert 0.3 < watched.stretch.seconds < watched.seconds
    assert watched.first_step is not None
    assert watched.first_step < watched.seconds
    assert watched.peak_bytes > 1_000_000


def test_a_command_is_ended_after_the_last_step_that_is_looked_at(tmp_path: Path) -> None:
    watched = watch(
        [sys.executable, "-c", STEPS, str(tmp_path / "steps.jsonl"), "linger"],
        scratch=tmp_path,
        steps="*.jsonl",
        between=(1, 3),
        stop_after=3,
    )
    assert watched.seconds < 30
    assert len((tmp_path / "steps.jsonl").read_text().splitlines()) < 5


def test_a_command_that_fails_says_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no such thing"):
        watch([sys.executable, "-c", "raise SystemExit('no such thing')"], scratch=tmp_path)


def test_standard_output_is_kept_apart(tmp_path: Path) -> None:
    command = "import sys; print('{\"seconds\": 1}'); print('noise', file=sys.stderr)"
    watched = watch([sys.executable, "-c", command], scratch=tmp_path)
    assert json.loads(watched.stdout) == {"seconds": 1}


def test_growth_is_drawn_into_one_file_with_every_value(tmp_path: Path) -> None:
    from benchmarks.growth import Panel, draw

    panels = [Panel("start & end", "s", [2.5, 6.25, 20.0], 15.0), Panel("memory", "MiB", [9], 1)]
    with pytest.raises(ValueError, match="shorter"):
        draw(tmp_path, "growth", [1000, 3000, 10_000], panels)
    path = draw(tmp_path / "new", "growth", [1000, 3000, 10_000], panels[:1])
    drawn = ElementTree.parse(path).getroot()
    texts = [text.strip() for text in drawn.itertext()]
    assert {"start & end, s", "2.5", "6.25", "20", "10,000", "goal 15 s"} <= {*texts}
    assert path.name == "growth.svg"
    assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", "")


def test_every_figure_that_was_asked_for_has_its_rows_and_its_goal(tmp_path: Path) -> None:
    from benchmarks import checkpoints, recovery, slowdown
    from benchmarks.__main__ import NAMES
    from benchmarks.scale import full

    assert {"checkpoints", "slowdown", "recovery", "history"} <= set(NAMES)
    assert (checkpoints.MOST_STALL, checkpoints.LEAST_SPEED) == (1.5, 0.8)
    assert (slowdown.PER_MINUTE_GOAL, slowdown.PLANNED_GOAL) == (0.05, 0.01)
    assert recovery.ALLOWED_SECONDS == 3.0
    assert full(tmp_path, tmp_path).checkpoints == 10_000


def test_a_row_is_measured_and_the_table_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "command"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "platform")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("│ tunefleet --help"))
    # The limit is of a quiet machine: here it counts that there is a verdict.
    assert "≤ 0.3 s" in row
    assert re.search(r"met|MISSED", row)
