"""No key is lost, none is worked on twice at once, and delays end when they should."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kube.virtual_time import run
from tunefleet.kube.queue import WorkQueue

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.just(0.0)),
        st.tuples(st.just("add after"), KEYS, st.sampled_from([0.0, 0.5, 1.0, 7.0])),
        st.tuples(st.just("fail"), KEYS, st.just(0.0)),
        st.tuples(st.just("succeed"), KEYS, st.just(0.0)),
        st.tuples(st.just("pass time"), st.just(""), st.sampled_from([0.25, 1.0, 30.0])),
        st.tuples(st.just("cancel a worker"), st.just(""), st.just(0.0)),
    ),
    max_size=40,
)


class _Workers:
    """Two workers that hold every key until they are told how its work ended."""

    def __init__(self, queue: WorkQueue[str]) -> None:
        self.queue = queue
        self.held: set[str] = set()
        self.clock = 0
        """Counts what happens, so that things of the same instant have an order."""
        self.taken: dict[str, int] = {}
        self.tasks = [asyncio.create_task(self._work()) for _ in range(2)]

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            assert key not in self.held, f"{key} is worked on twice at once"
            self.held.add(key)
            self.clock += 1
            self.taken[key] = self.clock

    def end(self, key: str, *, well: bool) -> None:
        self.held.discard(key)
        if well:
            self.queue.forget(key)
        else:
            self.queue.back_off(key)
        self.queue.done(key)

    async def replace_one(self) -> None:
        await _cancelled(self.tasks.pop())
        self.tasks.append(asyncio.create_task(self._work()))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_every_key_is_worked_on_after_it_was_last_wanted(
    steps: list[tuple[str, str, float]],
) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
        workers = _Workers(queue)
        wanted: dict[str, int] = {}
        for step, key, seconds in steps:
            workers.clock += 1
            if step == "pass time":
                await asyncio.sleep(seconds)
            elif step == "cancel a worker":
                await workers.replace_one()
            elif step in {"add", "add after"}:
                wanted[key] = workers.clock
                queue.add(key) if step == "add" else queue.add_after(key, seconds)
            elif key in workers.held:
                wanted[key] = workers.clock if step == "fail" else wanted[key]
                workers.end(key, well=step == "succeed")
            for _ in range(3):
                await asyncio.sleep(0)
        # From now on all work ends well, and within a second; the longest back-off is 300 s.
        for _ in range(400):
            for key in list(workers.held):
                workers.end(key, well=True)
            await asyncio.sleep(1.0)
        assert queue.idle
        late = {key for key, when in wanted.items() if workers.taken.get(key, 0) < when}
        assert not late, "wanted and not worked on since"
        for task in workers.tasks:
            await _cancelled(task)

    run(main())


async def _taken_at(queue: WorkQueue[str]) -> float:
    await queue.get()
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("delays", "at"),
    [([0.0], 0.0), ([5.0], 5.0), ([5.0, 2.0], 2.0), ([2.0, 5.0], 2.0), ([5.0, 0.0], 0.0)],
    ids=[
        "no delay is at once",
        "a delay passes",
        "a shorter delay replaces a longer one",
        "a longer delay does not replace a shorter one",
        "no delay overtakes a delay",
    ],
)
def test_a_key_is_ready_when_its_first_delay_ends(delays: list[float], at: float) -> None:
    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue()
        for delay in delays:
            queue.add_after("a", delay)
        return await _taken_at(queue)

    assert run(main()) == at


def test_failures_in_a_row_wait_longer_and_longer_until_one_success() -> None:
    async def main() -> list[float]:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
        delays = [queue.back_off("a") for _ in range(11)]
        queue.forget("a")
        return [*delays, queue.back_off("a"), queue.back_off("b")]

    assert run(main()) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 1, 1]


def test_a_back_off_is_spread_and_is_as_long_as_the_server_asks() -> None:
    async def main() -> list[float]:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda: 0.0)
        return [queue.back_off("a"), queue.back_off("b", at_least=30.0)]

    assert run(main()) == [0.5, 30.0]


def test_a_key_that_fails_for_weeks_still_backs_off() -> None:
    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
        return [queue.back_off("a") for _ in range(5000)][-1]

    assert run(main()) == 300.0


def test_a_key_added_many_times_is_worked_on_once() -> None:
    async def main() -> int:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(5):
            queue.add("a")
        assert await queue.get() == "a"
        queue.done("a")
        return len(queue)

    assert run(main()) == 0


def test_a_key_added_while_worked_on_is_ready_only_after_its_end() -> None:
    async def main() -> tuple[int, int]:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        before = len(queue)
        queue.done("a")
        return before, len(queue)

    assert run(main()) == (0, 1)


def test_a_closed_queue_has_no_delays() -> None:
    async def main() -> int:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 1.0)
        queue.close()
        await asyncio.sleep(2.0)
        return len(queue)

    assert run(main()) == 0


def test_a_worker_that_leaves_as_it_is_woken_leaves_the_key_to_another() -> None:
    async def main() -> str:
        queue: WorkQueue[str] = WorkQueue()
        leaving, staying = (asyncio.create_task(queue.get()) for _ in range(2))
        await asyncio.sleep(1.0)
        queue.add("a")
        leaving.cancel()
        return await staying

    assert run(main()) == "a"
