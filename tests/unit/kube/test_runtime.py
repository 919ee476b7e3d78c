"""Caches first, then leadership, then work; and every key is worked on until it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.kube.virtual_time import run
from tunefleet.kube import runtime as module
from tunefleet.kube.errors import ApiError, Fenced
from tunefleet.kube.queue import WorkQueue
from tunefleet.kube.runtime import Runtime


class _Follower:
    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.trouble = ""
        self.silent_seconds = 0.0
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.sleep(1e9)
        finally:
            self.running = False


class _Candidate(_Follower):
    def __init__(self) -> None:
        super().__init__()
        self.elected = asyncio.Event()
        self.released = False

    async def release(self) -> None:
        self.released = True


class House:
    """A runtime over two caches, and what its reconcile was called with and when."""

    def __init__(self, outcomes: Callable[[str], Awaitable[float | None]]) -> None:
        self.followers = [_Follower(), _Follower()]
        self.queue: WorkQueue[str] = WorkQueue(jitter=lambda: 1.0)
        self.stop = asyncio.Event()
        self.calls: list[tuple[float, str]] = []
        self.keys: list[str] = []
        self._outcomes = outcomes
        self.runtime = Runtime(
            self.followers, self.queue, self._reconcile, keys=lambda: self.keys, workers=3
        )

    async def _reconcile(self, key: str) -> float | None:
        self.calls.append((asyncio.get_running_loop().time(), key))
        return await self._outcomes(key)

    def sync(self) -> None:
        for follower in self.followers:
            follower.synced.set()

    async def during(self, seconds: float, candidate: _Candidate | None = None) -> None:
        running = asyncio.create_task(self.runtime.run(self.stop, candidate))
        await asyncio.sleep(seconds)
        self.stop.set()
        await running


async def done(key: str) -> None:
    return None


def test_no_work_before_every_cache_is_filled() -> None:
    async def main() -> list[tuple[float, str]]:
        house = House(done)
        house.queue.add("a")
        house.followers[0].synced.set()
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, house.followers[1].synced.set)
        await house.during(10.0)
        return house.calls

    assert run(main()) == [(5.0, "a")]


def test_a_standby_keeps_its_caches_and_works_once_it_is_elected() -> None:
    async def main() -> None:
        house = House(done)
        house.sync()
        house.queue.add("a")
        candidate = _Candidate()
        running = asyncio.create_task(house.runtime.run(house.stop, candidate))
        await asyncio.sleep(30.0)
        assert all(follower.running for follower in house.followers)
        assert house.calls == []
        candidate.elected.set()
        await asyncio.sleep(1.0)
        assert house.calls == [(30.0, "a")]
        house.stop.set()
        await running
        assert candidate.released
        assert not candidate.running

    run(main())


@pytest.mark.parametrize(
    ("outcome", "seconds", "at"),
    [
        (RuntimeError("a mistake"), 8.0, [0, 1, 3, 7]),
        (ApiError(409, "Conflict", "changed"), 4.0, [0, 1, 3]),
        (ApiError(429, "TooManyRequests", "busy", retry_after=20.0), 41.0, [0, 20, 40]),
        (asyncio.CancelledError(), 4.0, [0, 1, 3]),
        (Fenced("no longer leads"), 100.0, [0]),
        (30.0, 100.0, [0, 30, 60, 90]),
        (None, 100.0, [0]),
    ],
    ids=[
        "a mistake backs off",
        "a conflict backs off",
        "a busy server sets the pace",
        "a cancellation from inside is a mistake",
        "a fenced key is left to the next leader",
        "a wish to be called again is kept",
        "a key that is done rests",
    ],
)
def test_an_outcome_decides_when_a_key_is_next(
    outcome: BaseException | float | None, seconds: float, at: list[float]
) -> None:
    async def end(key: str) -> float | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def main() -> list[float]:
        house = House(end)
        house.sync()
        house.queue.add("a")
        await house.during(seconds)
        return [when for when, _ in house.calls]

    assert run(main()) == at


def test_one_success_ends_the_growing_of_delays() -> None:
    outcomes: list[BaseException | float | None] = [
        ApiError(500, "", ""),
        ApiError(500, "", ""),
        10.0,
        ApiError(500, "", ""),
        None,
    ]

    async def next_outcome(key: str) -> float | None:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def main() -> list[float]:
        house = House(next_outcome)
        house.sync()
        house.queue.add("a")
        await house.during(100.0)
        return [when for when, _ in house.calls]

    assert run(main()) == [0, 1, 3, 13, 14]


def test_every_key_is_looked_at_now_and_then() -> None:
    async def main() -> list[tuple[float, str]]:
        house = House(done)
        house.sync()
        house.keys = ["a", "b"]
        await house.during(601.0)
        return house.calls

    assert run(main()) == [(0.0, "a"), (0.0, "b"), (600.0, "a"), (600.0, "b")]


def test_as_many_keys_at_once_as_there_are_workers() -> None:
    busy = 0
    most = 0

    async def slow(key: str) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(1.0)
        busy -= 1

    async def main() -> None:
        house = House(slow)
        house.sync()
        for key in "abcdefg":
            house.queue.add(key)
        await house.during(10.0)
        assert len(house.calls) == 7

    run(main())
    assert most == 3


def test_a_reconcile_that_is_stuck_counts_as_failed() -> None:
    async def stuck(key: str) -> None:
        await asyncio.sleep(1e9)

    async def main() -> list[float]:
        house = House(stuck)
        house.sync()
        house.queue.add("a")
        await house.during(302.0)
        return [when for when, _ in house.calls]

    assert run(main()) == [0, 301]


@pytest.mark.parametrize(
    ("takes", "finished"), [(5.0, True), (60.0, False)], ids=["finishes in time", "does not"]
)
def test_work_at_the_end_is_given_time_while_we_still_lead(takes: float, finished: bool) -> None:
    ended = []

    async def main() -> float:
        candidate = _Candidate()
        candidate.elected.set()

        async def slow(key: str) -> None:
            await asyncio.sleep(takes)
            ended.append(candidate.running and not candidate.released)

        house = House(slow)
        house.sync()
        house.queue.add("a")
        await house.during(1.0, candidate)
        return asyncio.get_running_loop().time()

    at = run(main())
    assert ended == ([True] if finished else [])
    assert at == (takes if finished else 1.0 + module.DRAIN_SECONDS)


def test_a_part_that_fails_ends_the_whole() -> None:
    async def main() -> None:
        house = House(done)

        async def breaks() -> None:
            raise RuntimeError("a reflector's mistake")

        house.followers[1].run = breaks  # type: ignore[method-assign]
        await house.runtime.run(house.stop)

    with pytest.raises(ExceptionGroup) as caught:
        run(main())
    assert caught.group_contains(RuntimeError, match="a reflector's mistake")


@pytest.mark.parametrize(
    ("synced", "silent", "trouble", "said"),
    [
        (False, 0.0, "", "the first lists are being read"),
        (False, 0.0, "things: 403 Forbidden", "things: 403 Forbidden"),
        (True, 0.0, "", ""),
        (True, 100.0, "things: Unreachable", ""),
        (True, 200.0, "things: Unreachable", "things: Unreachable"),
        (True, 200.0, "", "the API server is silent"),
    ],
    ids=[
        "not before the first lists",
        "with the reason where there is one",
        "with filled caches",
        "through a short trouble",
        "not through a long one",
        "not through a long silence",
    ],
)
def test_the_process_is_ready(synced: bool, silent: float, trouble: str, said: str) -> None:
    async def main() -> str:
        house = House(done)
        house.sync()
        if not synced:
            house.followers[1].synced.clear()
        house.followers[1].silent_seconds = silent
        house.followers[1].trouble = trouble
        return house.runtime.unready()

    assert run(main()) == said


def test_a_mistake_is_told_with_its_traceback_and_a_refusal_in_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(key: str) -> None:
        raise RuntimeError("a mistake") if key == "a" else ApiError(403, "Forbidden", "no rights")

    async def main() -> None:
        house = House(end)
        house.sync()
        house.queue.add("a")
        house.queue.add("b")
        await house.during(0.5)

    with caplog.at_level(logging.WARNING):
        run(main())
    first, second = caplog.records
    assert first.exc_info is not None
    assert second.exc_info is None
    assert second.getMessage() == "b is tried again in 1.0 s: 403 Forbidden: no rights"
