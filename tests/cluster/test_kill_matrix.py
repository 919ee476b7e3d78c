"""The controller killed before and after every write of four lives (``make test-cluster-full``).

What is written is counted in a life without a kill; then the life is lived again for each of its
writes, with the controller's process killed before it, and again after it, before its reply has
come. Every one has to end as the undisturbed one did.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from tests.cluster.actors import MortalClient, Players
from tests.cluster.lives import FINAL, Life, lived
from tests.testbed.clusters import Cluster
from tunefleet.controller.kinds import FINE_TUNE_JOBS, RAY_JOBS

pytestmark = pytest.mark.usefixtures("definitions")

Script = Callable[[Life], Awaitable[None]]


async def without_a_hitch(life: Life) -> None:
    await life.until(FINAL)


async def suspended_and_gone_on_with(life: Life) -> None:
    await life.until({"Running"})
    await wish(life, suspend=True)
    await life.until({"Suspended"})
    await wish(life, suspend=False)
    await life.until(FINAL)


async def failed_once(life: Life) -> None:
    life.players.failing = True
    await life.until(FINAL)


async def evicted_from_its_queue(life: Life) -> None:
    await life.until({"Queued"})
    await admit(life)
    await life.until({"Running"})
    await life.players.evict(await newest(life))
    await life.until({"Queued"})
    await admit(life)
    await life.until(FINAL)


async def wish(life: Life, **spec: bool) -> None:
    client = life.players.client
    await client.patch(FINE_TUNE_JOBS, life.namespace, "reviews", {"spec": spec})


async def newest(life: Life) -> str:
    return max(str(o["metadata"]["name"]) for o in await life.children(RAY_JOBS))


async def admit(life: Life) -> None:
    await life.players.admit(await newest(life))


LIVES: dict[str, tuple[Script, str | None]] = {
    "a life without a hitch": (without_a_hitch, None),
    "one that is suspended and gone on with": (suspended_and_gone_on_with, None),
    "one whose first attempt fails": (failed_once, None),
    "one that its queue evicts": (evicted_from_its_queue, "gpu"),
}


def live(
    cluster: Cluster, name: str, *, before: int | None = None, after: int | None = None
) -> tuple[dict[str, object], int, int]:
    """A life's end, how often its controller died, and how many writes it made."""
    script, queue = LIVES[name]

    async def test(life: Life) -> tuple[dict[str, object], int, int]:
        async with await MortalClient.connect(cluster.kubeconfig) as other:
            other.count()
            # The players write through a client of their own, which is not counted.
            life.players = Players(other, life.namespace)
            await life.apply(queue=queue)
            life.client.count(before=before, after=after)
            await script(life)
        assert await life.phase() == "Succeeded"
        return await life.essence(), life.deaths, len(life.client.writes)

    found: tuple[dict[str, object], int, int] = lived(cluster, test)
    return found


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LIVES)
def test_killed_around_every_write_a_life_ends_the_same(
    kuberay: Cluster, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    undisturbed, deaths, writes = live(kuberay, name)
    assert deaths == 0
    different = []
    kills = 0
    for write in range(writes):
        for when in ("before", "after"):
            end, deaths, made = live(kuberay, name, **{when: write})
            kills += deaths
            # Progress is told as often as it is seen: the last writes may not be made again.
            assert deaths == 1 or made <= write, "the kill has to happen"
            if end != undisturbed:
                different.append((when, write, end))
    with capsys.disabled():
        minutes = (time.monotonic() - began) / 60
        print(
            f"\n  {name}: {writes} writes, {kills} kills, {len(different)} other ends, "
            f"{minutes:.1f} min"
        )
    assert not different, (undisturbed, different)
