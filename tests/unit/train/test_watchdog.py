"""A process that makes no progress ends itself and says where it hung."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunefleet.train.watchdog import EXIT_HUNG, Watchdog

PROGRAM = """
import sys, time
from pathlib import Path
from tunefleet.train.watchdog import Watchdog

def told(seconds):
    print(f"silent for {seconds:.1f} s", flush=True)
    if sys.argv[2] == "hang untold":
        raise OSError("the store is away")
    if sys.argv[2] == "hang as it is told":
        time.sleep(60)

watchdog = Watchdog(
    Path(sys.argv[1]), floor_seconds=0.4, multiple=3.0, on_hang=told, last_words_seconds=2.0
)
watchdog.start()

def a_place_to_hang():
    time.sleep(60)

if sys.argv[2] == "hang in storage":
    watchdog.expect(0.5)
if sys.argv[2].startswith("hang"):
    a_place_to_hang()
for _ in range(8):
    time.sleep(0.1)
    watchdog.beat()
watchdog.close()
"""


def ended(stacks: Path, how: str) -> subprocess.CompletedProcess[str]:
    """A process under a watchdog, at its end."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(stacks), how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("how", ["hang", "hang untold", "hang as it is told", "hang in storage"])
def test_a_hanging_process_ends_with_its_stack(tmp_path: Path, how: str) -> None:
    """Also when nobody can be told, because the store is away or hangs."""
    done = ended(tmp_path / "stacks.txt", how)
    assert done.returncode == EXIT_HUNG, done.stderr
    assert "silent for" in done.stdout
    assert "a_place_to_hang" in (tmp_path / "stacks.txt").read_text()


def test_a_process_that_beats_is_left_alone(tmp_path: Path) -> None:
    done = ended(tmp_path / "stacks.txt", "beat")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "stacks.txt").exists()


def test_slow_steps_move_the_deadline(tmp_path: Path) -> None:
    now = 0.0
    watchdog = Watchdog(tmp_path / "s", floor_seconds=10.0, multiple=20.0, clock=lambda: now)
    assert watchdog.deadline_seconds == 10.0
    now = 4.0
    watchdog.beat()
    assert watchdog.deadline_seconds == 80.0


def test_what_is_known_to_take_long_moves_the_deadline_until_the_next_beat(tmp_path: Path) -> None:
    now = 0.0
    watchdog = Watchdog(tmp_path / "s", floor_seconds=10.0, multiple=20.0, clock=lambda: now)
    watchdog.expect(30.0)
    assert watchdog.deadline_seconds == 40.0
    now = 29.0
    watchdog.beat()
    assert watchdog.deadline_seconds == 10.0, "it was no step"
