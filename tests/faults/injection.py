"""What is done to a process of a case: its storage writes are numbered, logged and cut short.

Installed in a forked process, never in production code. Every storage write of a run goes
through three methods of ``Store``; here they are wrapped. (``flush`` writes nothing: it makes
what is there survive a power cut, which no kill is.) The log of samples is taken beside the
loop: which ids stood in the batch whose backward pass has just ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EVENTS, SAMPLES = "writes.jsonl", "samples.jsonl"
_PROBE = re.compile(r"probe-[0-9a-f]{16}")
_NONCE = re.compile(r"-[0-9a-f]{6}/")


@dataclass(frozen=True, slots=True)
class Arm:
    """One kill: at which write of which process, when, and who dies.

    ``when``: before, during (a half-written file is left, as on a local disk) or after the
    write. ``victim``: ``writer`` alone, a ``peer`` alone, the ``driver`` alone (the workers
    go on as orphans), the whole ``group``, or all of it is stopped (``stop``). With
    ``after_seconds`` instead of ``write`` the kill comes at a moment of its own.
    """

    role: str
    rank: int = 0
    write: int = 0
    when: str = "before"
    victim: str = "group"
    after_seconds: float | None = None

    def values(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


class Recorder:
    """Numbers, logs and cuts short the writes of this process."""

    def __init__(
        self, folder: Path, role: str, rank: int, life: int, start: int, arm: Arm | None
    ) -> None:
        self._folder = folder
        self._who: dict[str, Any] = {
            "role": role,
            "rank": rank,
            "life": life,
            "start": start,
            "pid": os.getpid(),
        }
        self._arm = arm if arm and (arm.role, arm.rank) == (role, rank) else None
        self._lock = threading.RLock()
        self._count = 0
        self._inside = threading.local()
        self._events = os.open(folder / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._samples = os.open(folder / SAMPLES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.say("born")
        if self._arm and self._arm.after_seconds is not None:
            timer = threading.Timer(self._arm.after_seconds, self.fire)
            timer.daemon = True
            timer.start()

    def say(self, event: str, **more: object) -> None:
        """One line of the log; whole, even when the next instruction is the last."""
        line = json.dumps({"t": time.monotonic(), "event": event, **self._who, **more})
        os.write(self._events, line.encode() + b"\n")

    def claimed(self, attempt: int, start: int) -> None:
        """Which start this process turned out to belong to."""
        self._who |= {"attempt": attempt, "claimed": start}
        self.say("claimed")

    def sample(self, step: int, epoch: int, ids: list[int], *, done: bool = False) -> None:
        """Ids that have passed backward, or (``done``) that a step was taken."""
        line = json.dumps(
            {"t": time.monotonic(), **self._who}
            | {"step": step, "epoch": epoch, "ids": ids, "done": done}
        )
        os.write(self._samples, line.encode() + b"\n")

    @contextlib.contextmanager
    def write(self, op: str, key: str, torn: Callable[[], None]) -> Iterator[None]:
        """Around one storage write."""
        with self._lock:
            # (The cost record is also kept by the clock: it has no number of its own, and is
            # met by kills at random moments.)
            if getattr(self._inside, "depth", 0) or key.endswith("/SPENT.json"):
                with self._unnumbered():
                    yield
                return
            self._inside.depth = 1
            number = self._count
            self._count += 1
            self.say("begin", n=number, op=op, key=key)
            arm = self._arm
            mine = arm is not None and arm.after_seconds is None and arm.write == number
            if mine and arm and arm.when != "after":
                if arm.when == "during":
                    torn()
                self.fire()
            try:
                yield
            finally:
                self._inside.depth = 0
            if mine and arm and arm.when == "after":
                self.say("end", n=number, op=op, key=key)
                self.fire()
                return
            self.say("end", n=number, op=op, key=key)

    @contextlib.contextmanager
    def _unnumbered(self) -> Iterator[None]:
        before = getattr(self._inside, "depth", 0)
        self._inside.depth = before + 1
        try:
            yield
        finally:
            self._inside.depth = before

    def outside(self) -> bool:
        """Whether this thread is outside every numbered write."""
        return not getattr(self._inside, "depth", 0)

    def fire(self) -> None:
        """Kill whom the arm names."""
        assert self._arm is not None
        self.say("kill", victim=self._arm.victim)
        match self._arm.victim:
            case "group":
                os.killpg(os.getpgrp(), signal.SIGKILL)
            case "writer":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.killpg(os.getpgrp(), signal.SIGSTOP)
                time.sleep(0.2)  # a thread may run on for a moment before it stands
            case "driver":
                os.kill(self._pid_of("driver", -1), signal.SIGKILL)
            case "peer":
                while len(others := self._ranks() - {self._who["rank"]}) == 0:
                    time.sleep(0.005)  # not born yet
                os.kill(self._pid_of("worker", min(others)), signal.SIGKILL)

    def _born(self) -> list[dict[str, Any]]:
        lines = (self._folder / EVENTS).read_text().splitlines()
        mine = (self._who["life"], self._who["start"])
        found = [json.loads(line) for line in lines if '"born"' in line]
        return [e for e in found if e["role"] == "driver" or (e["life"], e["start"]) == mine]

    def _ranks(self) -> set[int]:
        return {event["rank"] for event in self._born() if event["role"] == "worker"}

    def _pid_of(self, role: str, rank: int) -> int:
        found = [e["pid"] for e in self._born() if (e["role"], e["rank"]) == (role, rank)]
        return int(found[-1])


def note(folder: Path, event: str) -> None:
    """A line of a case's log from outside its processes."""
    line = json.dumps({"t": time.monotonic(), "event": event, "key": ""})
    with (folder / EVENTS).open("a") as file:
        file.write(line + "\n")


def install(recorder: Recorder) -> None:
    """Wrap what writes to a store in this process."""
    from tunefleet.storage import store as module

    original = module.Store
    write, create = original.write, original.create
    delete = original.delete

    def torn(store: Any, key: str, body: object) -> Callable[[], None]:
        def leave() -> None:
            path = store.local_path(key)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                data = body.read_bytes() if isinstance(body, Path) else bytes(body)  # type: ignore[call-overload]
                path.with_name(f"{path.name}#1").write_bytes(data[: len(data) // 2])

        return leave

    def nothing() -> None:
        pass

    def numbered_write(self: Any, key: str, body: Any) -> tuple[int, str]:
        with recorder.write("write", plain(key), torn(self, key, body)):
            return write(self, key, body)

    def numbered_create(self: Any, key: str, body: bytes) -> bool:
        with recorder.write("create", plain(key), torn(self, key, body)):
            return create(self, key, body)

    def numbered_delete(self: Any, keys: Iterable[str]) -> None:
        for key in list(keys):
            with recorder.write("delete", plain(key), nothing):
                delete(self, [key])

    original.write = numbered_write  # type: ignore[method-assign]
    original.create = numbered_create  # type: ignore[method-assign]
    original.delete = numbered_delete  # type: ignore[method-assign]
    _watch_for_others(recorder, module)


def plain(key: str) -> str:
    """A key without its random part, so that two runs can be compared."""
    return _PROBE.sub("probe-*", _NONCE.sub("-*/", key))


def _watch_for_others(recorder: Recorder, module: Any) -> None:
    """Say so when something is written past the three methods: it would go unnumbered."""
    real = module.obstore

    class Watched:
        def __getattr__(self, name: str) -> object:
            found = getattr(real, name)
            if name in {"put", "delete", "copy", "rename"} and recorder.outside():
                recorder.say("unnumbered", op=name)
            return found

    module.obstore = Watched()


def log_samples(recorder: Recorder, step_seconds: float) -> None:
    """Log the ids of every batch whose backward pass has ended, beside the loop.

    ``step_seconds`` more are taken for every step.
    """
    import torch

    from tunefleet.train import step as module

    to_device, backward, run = module.to_device, torch.autograd.backward, module.ExactStep.run
    now: dict[str, Any] = {}

    def watched_move(batch: Any, *rest: Any) -> Any:
        now["ids"] = [int(i) for i in batch["ids"]]
        return to_device(batch, *rest)

    def watched_backward(*arguments: Any, **more: Any) -> None:
        backward(*arguments, **more)
        if "work" in now:
            recorder.sample(now["work"].number + 1, now["work"].epoch, now.pop("ids"))

    def watched_run(self: Any, work: Any, votes: Any) -> Any:
        now["work"] = work
        result = run(self, work, votes)
        time.sleep(step_seconds)
        del now["work"]
        recorder.sample(work.number + 1, work.epoch, [], done=True)
        return result

    module.to_device = watched_move  # type: ignore[assignment]
    torch.autograd.backward = watched_backward
    module.ExactStep.run = watched_run  # type: ignore[method-assign]


def log_saves(recorder: Recorder) -> None:
    """Log when a checkpoint is written and everything that belongs to it is done."""
    from tunefleet.train.saver import Saver

    write = Saver._write

    def told(self: Any, state: Any, metric: Any) -> None:
        write(self, state, metric)
        recorder.say("saved", step=state.step)

    Saver._write = told  # type: ignore[method-assign]


def moments(seed: int, count: int, longest: float) -> list[float]:
    """Seconds after a worker's birth at which to kill, uniform over its life."""
    draw = random.Random(seed)
    return [draw.uniform(0.0, longest) for _ in range(count)]
