"""Writes go out at the pace that was set, in the order they came."""

from __future__ import annotations

import asyncio
import contextlib

from tests.unit.kube.virtual_time import run
from tunefleet.kube.limits import TokenBucket


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    async def main() -> list[float]:
        bucket = TokenBucket(rate=2, burst=3)
        loop = asyncio.get_running_loop()

        async def one() -> float:
            await bucket.take()
            return loop.time()

        return list(await asyncio.gather(*(one() for _ in range(6))))

    assert run(main()) == [0, 0, 0, 0.5, 1.0, 1.5]


def test_a_rest_refills_no_more_than_a_burst() -> None:
    async def main() -> list[bool]:
        bucket = TokenBucket(rate=1, burst=2)
        assert bucket.take_now()
        await asyncio.sleep(100)
        return [bucket.take_now() for _ in range(3)]

    assert run(main()) == [True, True, False]


def test_who_stops_waiting_gives_the_turn_back() -> None:
    async def main() -> float:
        bucket = TokenBucket(rate=1, burst=1)
        await bucket.take()
        leaving = asyncio.create_task(bucket.take())
        await asyncio.sleep(0)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        return await bucket.take()

    assert run(main()) == 1.0
