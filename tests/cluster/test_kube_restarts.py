"""The cache outlives its servers: restarted, with a forgotten history, restored to earlier."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from tests.cluster.kube_things import CONFIG_MAPS, LABELS, Thing, thing
from tests.testbed import control_plane, life
from tests.testbed.bed import Bed
from tests.testbed.processes import Processes
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError
from tunefleet.kube.reflector import Reflector, Why

NAMESPACE = "default"


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """A bed of its own: its servers are stopped, and what they keep is put back to earlier."""
    made = Bed("restarts")
    life.up(made, "cp", say=print)
    try:
        yield made
    finally:
        life.down(made, say=print)


def stop(bed: Bed, *servers: str) -> None:
    for server in servers:
        Processes(bed.run).stop(server)


def start(bed: Bed, *servers: str) -> None:
    for server in servers:
        control_plane.start(bed, server)
    control_plane.wait_until_served(bed)


@asynccontextmanager
async def following(bed: Bed) -> AsyncIterator[tuple[Client, Callable[[], dict[str, str]]]]:
    """A client, and what a reflector knows."""
    async with await Client.connect(bed.kubeconfig) as client:
        reflector = Reflector(
            client, CONFIG_MAPS, Thing.model_validate_json, namespace=NAMESPACE, labels=LABELS
        )
        task = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        try:
            yield (
                client,
                lambda: {item.name: item.data.get("size", "") for item in reflector.cache.all()},
            )
        finally:
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def put(client: Client, name: str, size: str) -> None:
    """Write it; again while the connection is one that the server's end has cut."""
    body = thing(name, size=size)
    async with asyncio.timeout(90):
        while True:
            try:
                await client.apply(CONFIG_MAPS, NAMESPACE, name, body, manager="tests")
            except ApiError as error:
                if not error.unreachable:
                    raise
                await asyncio.sleep(0.2)
            else:
                return


async def knows(known: Callable[[], dict[str, str]], wanted: dict[str, str]) -> None:
    try:
        async with asyncio.timeout(90):
            while known() != wanted:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{known()} is known, not {wanted}") from None


def lists(why: Why) -> float:
    labels = {"resource": CONFIG_MAPS.plural, "why": why.value}
    return REGISTRY.get_sample_value("tunefleet_cache_lists_total", labels) or 0.0


def on(bed: Bed, test: Callable[[Client, Callable[[], dict[str, str]]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with following(bed) as (client, known):
            for name in known():
                await client.delete(CONFIG_MAPS, NAMESPACE, name)
            await put(client, "a", "1")
            await knows(known, {"a": "1"})
            await test(client, known)

    asyncio.run(main())


def test_an_api_server_that_was_restarted_is_followed_on(bed: Bed) -> None:
    async def test(client: Client, known: Callable[[], dict[str, str]]) -> None:
        await asyncio.to_thread(stop, bed, "apiserver")
        with pytest.raises(ApiError) as caught:
            await client.get(CONFIG_MAPS, NAMESPACE, "a")
        assert caught.value.unreachable
        await asyncio.sleep(3.0)
        assert known() == {"a": "1"}
        await asyncio.to_thread(start, bed, "apiserver")
        await put(client, "a", "2")
        await put(client, "b", "1")
        await knows(known, {"a": "2", "b": "1"})

    on(bed, test)


def test_a_version_that_the_server_forgot_is_gone(bed: Bed) -> None:
    async def test(client: Client, known: Callable[[], dict[str, str]]) -> None:
        # A server just started remembers nothing of what was before.
        stop(bed, "apiserver")
        start(bed, "apiserver")
        with pytest.raises(ApiError) as caught:
            async for _ in client.watch(CONFIG_MAPS, NAMESPACE, resource_version="1"):
                pass
        assert caught.value.gone

    on(bed, test)


def test_a_store_put_back_to_earlier_is_listed_again(bed: Bed) -> None:
    kept, copy = bed.run / "etcd", bed.run / "etcd-before"

    async def test(client: Client, known: Callable[[], dict[str, str]]) -> None:
        stop(bed, "apiserver", "etcd")
        shutil.copytree(kept, copy)
        start(bed, "etcd", "apiserver")
        for size in range(2, 30):
            await put(client, "a", str(size))
        await put(client, "lost", "1")
        await knows(known, {"a": "29", "lost": "1"})
        before = lists(Why.WENT_BACK)
        stop(bed, "apiserver", "etcd")
        shutil.rmtree(kept)
        shutil.move(copy, kept)
        start(bed, "etcd", "apiserver")
        await knows(known, {"a": "1"})
        assert lists(Why.WENT_BACK) == before + 1
        await put(client, "a", "other")
        await knows(known, {"a": "other"})

    on(bed, test)
