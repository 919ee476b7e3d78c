"""The processes of a case: a driver that runs ``verbs.run`` as a user does, and its workers.

The driver is the real one but for Ray: the workers it would have placed are forked from the
fork server and form a real gloo group; a group in which one dies is ended and started again
at once, as Ray Train does. What is done to them is ``injection``'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults import injection, room, zygote

WORKER_DEADLINE = 90.0
MOST_STARTS = 12
STOPPED = 4


def driver(
    *,
    server: str,
    folder: str,
    life: int,
    worlds: list[int],
    arm: dict[str, Any] | None,
    grace: float,
    settings: dict[str, Any],
) -> int:
    """One call of ``tunefleet run job.yaml``; 0: it ended well, 3: failed, 4: stopped."""
    os.setpgid(0, 0)
    here = Path(folder)
    os.chdir(here)
    armed = injection.Arm(**arm) if arm else None
    recorder = injection.Recorder(here, "driver", -1, life, 0, armed)
    injection.install(recorder)
    _elsewhere(settings, life)
    _store_of_its_own(settings)

    from tunefleet.api.errors import TunefleetError
    from tunefleet.api.words import Phase
    from tunefleet.train import driver as real
    from tunefleet.train.environment import LocalRay
    from tunefleet.verbs.run import run

    @contextlib.contextmanager
    def no_ray(**settings: object) -> Iterator[LocalRay]:
        yield LocalRay("", "")

    def forked_fit(config: Any, scratch: Path, failure: list[BaseException]) -> None:
        try:
            _fit(server, here, life, worlds, config, arm, grace, settings)
        except BaseException as error:
            failure.append(error)

    vars(real).update(local_ray=no_ray, _fit=forked_fit)
    try:
        result = run(here / "job.yaml", workers=worlds[0], device="cpu", price="1.00")
    except TunefleetError as error:
        recorder.say("failed", kind=type(error).__name__, message=str(error))
        return 3
    recorder.say("ended", phase=result.phase, resumed=result.resumed_from)
    return 0 if result.phase is Phase.SUCCEEDED else STOPPED


def _fit(
    server: str,
    here: Path,
    life: int,
    worlds: list[int],
    config: Any,
    arm: dict[str, Any] | None,
    grace: float,
    settings: dict[str, Any],
) -> None:
    """Groups, one after another, until one ends as it should."""
    (here / f"config-{life}.json").write_text(config.to_json())
    for start in range(MOST_STARTS):
        world = worlds[start % len(worlds)]
        group = [
            zygote.fork(
                server,
                "tests.faults.roles:worker",
                {
                    "folder": str(here),
                    "config": str(here / f"config-{life}.json"),
                    "life": life,
                    "start": start,
                    "rank": rank,
                    "world": world,
                    "pgid": os.getpid(),
                    "arm": arm if start == 0 else None,
                    "settings": settings,
                },
                str(here / "output.txt"),
            )
            for rank in range(world)
        ]
        if _all_well(group, grace, float(settings.get("worker_seconds", WORKER_DEADLINE))):
            return
    raise AssertionError(f"{MOST_STARTS} groups ended without an end")


def _all_well(group: list[zygote.Fork], grace: float, seconds: float) -> bool:
    """Wait for a group. When one ends badly the others get a moment, then they are ended."""
    deadline = time.monotonic() + seconds
    # Every one is asked: who waits for a peer that is not there yet does not see it die.
    while [one for one in group if not one.ended()]:
        if any(one.code not in {None, 0} for one in group):
            deadline = min(deadline, time.monotonic() + grace)
        if time.monotonic() > deadline:
            for one in group:
                one.kill()
        time.sleep(0.005)
    return all(one.code == 0 for one in group)


def worker(
    *,
    folder: str,
    config: str,
    life: int,
    start: int,
    rank: int,
    world: int,
    pgid: int,
    arm: dict[str, Any] | None,
    settings: dict[str, Any],
) -> int:
    """One worker of a group, as ``python -m tunefleet.train`` is."""
    with contextlib.suppress(OSError):  # the driver may be dead already
        os.setpgid(0, pgid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    here = Path(folder)
    recorder = injection.Recorder(
        here, "worker", rank, life, start, injection.Arm(**arm) if arm else None
    )
    injection.install(recorder)
    injection.log_samples(recorder, float(settings.get("step_seconds", 0.0)))
    injection.log_saves(recorder)
    _elsewhere(settings, life)
    _store_of_its_own(settings)

    import torch.distributed as dist

    from tunefleet.plan.worker import WorkerConfig
    from tunefleet.train import process

    train = process._train

    def noted_train(own: Any, start: Any, *rest: Any) -> None:
        recorder.claimed(start.attempt, start.start)
        train(own, start, *rest)

    vars(process).update(_train=noted_train)
    process.HANG_FLOOR_SECONDS = float(settings.get("hang_seconds", process.HANG_FLOOR_SECONDS))
    told = WorkerConfig.from_json(Path(config).read_text())
    # (Two threads on a busy machine spin for each other; a tiny model needs one.)
    told = told.model_copy(update={"plan": told.plan.model_copy(update={"threads_per_worker": 1})})
    if world > 1:
        meeting = here / f"meeting-{life}-{start}"
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world
        )
    process.run_process(told, local_rank=rank)
    if dist.is_initialized():
        dist.destroy_process_group()
    recorder.say("returned")
    return 0


def _elsewhere(settings: dict[str, Any], life: int) -> None:
    """From the second life on: another machine, or a wall clock that was set back."""
    if life and settings.get("machines"):
        socket.gethostname = lambda: f"machine-{life}"
    shift = float(settings.get("clock_shift", 0.0))
    if not (life and shift):
        return
    import datetime

    wall, real = time.time, datetime.datetime

    class Shifted(real):  # type: ignore[valid-type,misc]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + datetime.timedelta(seconds=shift)

    time.time = lambda: wall() + shift
    from tunefleet.storage import records
    from tunefleet.verbs import concluding

    records.datetime = Shifted  # type: ignore[attr-defined]
    concluding.datetime = Shifted  # type: ignore[attr-defined]


def _store_of_its_own(settings: dict[str, Any]) -> None:
    """Another way to the store than other cases have, less patience with it, or no room."""
    os.environ.update(settings.get("environment", {}))
    if "ballast" in settings:
        room.pretend(Path(settings["ballast"]))
    if "patience" in settings:
        from tunefleet.storage.connect import Patience

        short, long = settings["patience"]
        seconds = {Patience.SHORT: short, Patience.LONG: long}
        type.__setattr__(Patience, "seconds", property(seconds.__getitem__))


def tidy(*, uri: str) -> int:
    """Collect a run's debris, as the next start of it would."""
    from tunefleet.storage.checkpoints import collect
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import open_store

    run = RunStore.newest(open_store(uri, Path("/")), "default", "tiny")
    assert run is not None
    collect(run)
    return 0


def summary(folder: Path) -> list[dict[str, Any]]:
    """The log of a case, line by line."""
    path = folder / injection.EVENTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
