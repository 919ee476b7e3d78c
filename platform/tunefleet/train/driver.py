"""The driver of one attempt: Ray Train places the workers, we watch and conclude.

Decides how an attempt is driven from one process: a private Ray, ``fit`` on a thread of its
own so that signals stay ours, the run's folder read for progress, one interrupt to save and
stop and a second to stop at once. Ray restarts a group whenever its train function raises;
whether that helps is decided by the group itself (``starts``). What a group cannot decide is
decided here: that no start can be claimed any more, and that the budget's limit is reached.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tunefleet.api.errors import RunError
from tunefleet.api.words import Command, DeviceType, FailureClass, Phase
from tunefleet.channel.attempt import Attempt
from tunefleet.channel.folder import WatchEnd
from tunefleet.channel.listening import Listener
from tunefleet.channel.schema import Event, Progress
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.train.budget import hard_limit
from tunefleet.train.conclude import conclude, leave_account
from tunefleet.train.environment import LocalRay, joined_ray, local_ray, process_environment

_POLL_SECONDS = 0.2


@dataclass(slots=True)
class Watcher:
    """What is told while an attempt goes on."""

    started: Callable[[LocalRay], None] = lambda ray: None
    progress: Callable[[Progress], None] = lambda progress: None
    event: Callable[[Event], None] = lambda event: None
    stopping: Callable[[str], None] = lambda name: None


@dataclass(slots=True)
class Interrupts:
    """Signals received so far, by number in order."""

    received: list[int] = field(default_factory=list)

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM inside a block (main thread only; elsewhere nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)


class StoppedAtOnce(Exception):
    """A second interrupt: nothing was waited for."""


class OutOfBudget(Exception):
    """The limit is as near as it may come: the workers did not stop in time by themselves."""


@dataclass(slots=True)
class VainStarts:
    """Groups of workers in a row that could not claim their start.

    Storage counts all other starts; when it does not answer, only who watches can.
    """

    allowed: int
    count: int = 0

    def hear(self, event: Event) -> None:
        """Count; raises ``RunError`` when there were more than are allowed."""
        if event.kind == "unclaimed":
            self.count += 1
        elif event.kind in ("resumed", "checkpoint", "evaluation"):
            self.count = 0
        if self.count > self.allowed:
            raise RunError(
                f"{self.count} starts in a row could not be claimed "
                f"(retry.maxFailures: {self.allowed}); the last one: {event.message}",
                remedy="when the store answers again, run the same command to go on",
            )


def drive(
    config: WorkerConfig,
    run: RunStore,
    watcher: Watcher,
    interrupts: Interrupts,
    *,
    dashboard: bool,
) -> ExitRecord:
    """Run one attempt to its end; returns its exit record.

    A ``carried`` config is driven on the Ray that runs here already, any other on a private one.

    Raises :class:`StoppedAtOnce` on a second interrupt, ``RunError`` when starts could not
    be claimed as often as the job allows.
    """
    plan = config.plan
    scratch = Path(config.scratch)
    failure: list[BaseException] = []
    deadline = hard_limit(run, config)
    before = run.exit_record(config.address.attempt)
    try:
        with (
            interrupts.caught(),
            _ray(config, dashboard=dashboard) as ray,
        ):
            watcher.started(ray)
            thread = threading.Thread(
                target=_fit, args=(config, scratch, failure), name="fit", daemon=True
            )
            thread.start()
            vain = VainStarts(plan.max_failures)
            _watch(thread, _heard(config), watcher, interrupts, vain, deadline)
    except OutOfBudget:
        return conclude(
            run,
            config,
            unsaid="budget: the limit was reached before the workers had stopped by themselves",
            now_ns=time.monotonic_ns(),
            phase=Phase.STOPPED,
            failure=FailureClass.BUDGET,
            before=before,
        )
    except BaseException:
        leave_account(run, config, time.monotonic_ns())
        raise
    unsaid = (
        f"the workers ended without a word: {failure[0]}"
        if failure
        else "the workers ended without a word"
    )
    return conclude(run, config, unsaid=unsaid, now_ns=time.monotonic_ns(), before=before)


def _ray(config: WorkerConfig, *, dashboard: bool) -> AbstractContextManager[LocalRay]:
    plan = config.plan
    environment = process_environment(plan.threads_per_worker)
    if config.carried:
        return joined_ray(environment)
    return local_ray(
        cpus=plan.workers * plan.threads_per_worker,
        gpus=plan.workers if plan.device is DeviceType.CUDA else 0,
        dashboard=dashboard,
        environment=environment,
    )


def _heard(config: WorkerConfig) -> WatchEnd | Listener:
    """Where the run is listened to: its folder, or what its pods say of it."""
    attempt = Attempt.here() if config.carried else None
    return WatchEnd(Path(config.scratch)) if attempt is None else Listener(attempt)


def _watch(
    thread: threading.Thread,
    run: WatchEnd | Listener,
    watcher: Watcher,
    interrupts: Interrupts,
    vain: VainStarts,
    deadline: int | None,
) -> None:
    asked = False
    while True:
        ended = not thread.is_alive()
        for event in run.events():
            watcher.event(event)
            vain.hear(event)
        progress = run.progress()
        if progress is not None:
            watcher.progress(progress)
        if ended:
            return
        if interrupts.received and not asked:
            asked = True
            name = signal.Signals(interrupts.received[0]).name
            if isinstance(run, Listener):
                # Workers in other pods are asked through these pods; this one has to go.
                raise StoppedAtOnce
            run.ask(Command.CHECKPOINT_AND_STOP, name)
            watcher.stopping(name)
        if len(interrupts.received) > 1:
            raise StoppedAtOnce
        if deadline is not None and time.monotonic_ns() >= deadline:
            raise OutOfBudget
        time.sleep(_POLL_SECONDS)


def _fit(config: WorkerConfig, scratch: Path, failure: list[BaseException]) -> None:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from tunefleet.train.moving import collective_seconds
    from tunefleet.train.worker import train_function

    plan = config.plan
    on_gpu = plan.device is DeviceType.CUDA
    resources = {"CPU": float(plan.threads_per_worker)} | ({"GPU": 1.0} if on_gpu else {})
    try:
        TorchTrainer(
            train_function,
            train_loop_config={"config": config.to_json()},
            torch_config=TorchConfig(
                backend="nccl" if on_gpu else "gloo", timeout_s=round(collective_seconds(plan))
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=plan.workers, use_gpu=on_gpu, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=f"{config.address.run}-{config.address.attempt}",
                storage_path=str(scratch / "ray"),
                failure_config=ray.train.FailureConfig(max_failures=-1),
            ),
        ).fit()
    except BaseException as error:
        failure.append(error)
