"""A pod that has to go waits until its workers have saved, and not for those that are dead."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from tunefleet.train.leaving import Leaving


def test_nothing_is_asked_until_the_pod_has_to_go(tmp_path: Path) -> None:
    leaving = Leaving(tmp_path / "attempt")
    assert not leaving.asked()
    assert leaving.ask(seconds=0), "nobody works: there is nothing to wait for"
    assert leaving.asked()


def test_the_pod_waits_for_a_worker_that_saves(tmp_path: Path) -> None:
    leaving, order = Leaving(tmp_path), list[str]()
    began = threading.Event()

    def worker() -> None:
        with leaving.work():
            began.set()
            while not leaving.asked():
                pass
            order.append("saved")

    thread = threading.Thread(target=worker)
    thread.start()
    began.wait()
    assert leaving.ask(seconds=30)
    order.append("gone")
    thread.join()
    assert order == ["saved", "gone"]


def test_the_pod_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    leaving = Leaving(tmp_path)
    with leaving.work():
        assert not leaving.ask(seconds=0.3)


def test_the_mark_of_a_killed_worker_does_not_count(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"working-{dead.pid}").touch()
    assert Leaving(tmp_path).ask(seconds=5)
