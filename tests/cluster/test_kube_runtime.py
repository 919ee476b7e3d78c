"""The runtime on a real API server: its refusals, its watches, its lists and its Leases."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.cluster.kube_things import CONFIG_MAPS, LABELS, Thing, thing
from tests.testbed.clusters import Cluster
from tests.unit.house.tree import ROOT
from tunefleet.kube.access import in_cluster
from tunefleet.kube.client import Client
from tunefleet.kube.election import EXIT_CODE, Terms
from tunefleet.kube.errors import ApiError
from tunefleet.kube.events import Regarding
from tunefleet.kube.reflector import Reflector
from tunefleet.kube.resources import PODS, Resource

EVENTS = Resource("events.k8s.io", "v1", "events", "Event")


def on(cluster: Cluster, test: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await Client.connect(cluster.kubeconfig) as client:
            await test(client)

    asyncio.run(main())


async def until(true: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None


async def refusal(act: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await act
    return caught.value


@asynccontextmanager
async def following(client: Client, namespace: str) -> AsyncIterator[Reflector[Thing]]:
    reflector = Reflector(
        client, CONFIG_MAPS, Thing.model_validate_json, namespace=namespace, labels=LABELS
    )
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(60):
            await reflector.synced.wait()
        yield reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sizes(reflector: Reflector[Thing]) -> dict[str, str]:
    return {item.name: item.data.get("size", "") for item in reflector.cache.all()}


def test_the_servers_refusals_say_what_to_do(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        made = await client.create(CONFIG_MAPS, namespace, thing("a"))
        assert (await refusal(client.create(CONFIG_MAPS, namespace, thing("a")))).already_exists
        error = await refusal(client.create(CONFIG_MAPS, namespace, thing("b") | {"dat": {}}))
        assert error.invalid
        assert 'unknown field "dat"' in error.message
        error = await refusal(client.create(CONFIG_MAPS, namespace, thing("Not a name")))
        assert error.invalid
        causes = error.details["causes"]
        assert isinstance(causes, list)
        assert causes[0]["field"] == "metadata.name"
        stale = {"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}}
        assert (await refusal(client.patch(CONFIG_MAPS, namespace, "a", stale))).conflict
        assert (await refusal(client.get(CONFIG_MAPS, namespace, "nothing"))).not_found
        assert (await client.get(CONFIG_MAPS, namespace, "a"))["metadata"] == made["metadata"]

    on(cluster, test)


def test_applying_takes_over_what_another_wrote(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        first = thing("a", size="1", other="kept")
        await client.apply(CONFIG_MAPS, namespace, "a", first, manager="others")
        second = thing("a", size="2")
        made = await client.apply(CONFIG_MAPS, namespace, "a", second, manager="ours")
        assert made["data"] == {"size": "2", "other": "kept"}
        again = await client.apply(CONFIG_MAPS, namespace, "a", second, manager="ours")
        assert again["metadata"] == made["metadata"]

    on(cluster, test)


def test_only_the_very_object_is_deleted(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        await client.create(CONFIG_MAPS, namespace, thing("a"))
        await client.delete(CONFIG_MAPS, namespace, "a", uid="11111111-of-one-before")
        assert await client.get(CONFIG_MAPS, namespace, "a")
        await client.delete(CONFIG_MAPS, namespace, "a")
        await client.delete(CONFIG_MAPS, namespace, "a")
        assert (await refusal(client.get(CONFIG_MAPS, namespace, "a"))).not_found

    on(cluster, test)


def test_the_cache_follows_the_server(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        await client.create(CONFIG_MAPS, namespace, thing("before", size="1"))
        async with following(client, namespace) as reflector:
            assert sizes(reflector) == {"before": "1"}
            owner = reflector.cache.get(namespace, "before")
            assert owner is not None
            owned = thing("owned", size="2")
            owned["metadata"] = {
                "name": "owned",
                "labels": {"test": "kube"},
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "name": "before",
                        "uid": owner.uid,
                        "controller": True,
                    }
                ],
            }
            await client.create(CONFIG_MAPS, namespace, owned)
            await client.patch(CONFIG_MAPS, namespace, "before", {"data": {"size": "3"}})
            known = {"before": "3", "owned": "2"}
            await until(lambda: sizes(reflector) == known, "both are known")
            assert [item.name for item in reflector.cache.owned_by(owner.uid)] == ["owned"]
            # Their labels, and so they themselves, leave what is followed.
            await client.patch(
                CONFIG_MAPS, namespace, "owned", {"metadata": {"labels": {"test": None}}}
            )
            await client.delete(CONFIG_MAPS, namespace, "before")
            await until(lambda: sizes(reflector) == {}, "both are gone")

    on(cluster, test)


def test_a_list_comes_in_pages_of_one_version(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        for number in range(7):
            await client.create(CONFIG_MAPS, namespace, thing(f"x{number}"))
        pages = [
            page async for page in client.list_pages(CONFIG_MAPS, namespace, labels=LABELS, limit=3)
        ]
        assert [len(page.items) for page in pages] == [3, 3, 1]
        assert len({page.resource_version for page in pages}) == 1
        names = [json.loads(item)["metadata"]["name"] for page in pages for item in page.items]
        assert names == [f"x{number}" for number in range(7)]

    on(cluster, test)


def test_an_event_said_three_times_is_one_of_count_three(cluster: Cluster, namespace: str) -> None:
    async def test(client: Client) -> None:
        made = Thing.model_validate(await client.create(CONFIG_MAPS, namespace, thing("a")))
        regarding = Regarding(CONFIG_MAPS, namespace, "a", made.uid)
        async with await Client.connect(cluster.kubeconfig) as speaking:
            for _ in range(3):
                await speaking.event(
                    regarding, kind="Warning", reason="Asked", action="Ask", note="three times"
                )
        (page,) = [page async for page in client.list_pages(EVENTS, namespace)]
        (event,) = [json.loads(item) for item in page.items]
        assert (event["note"], event["series"]["count"]) == ("three times", 3)

    on(cluster, test)
    said = cluster.kubectl("-n", namespace, "events", "--for", "configmap/a")
    assert "three times" in said


def test_a_pod_without_rights_is_told_so_and_syncs_once_it_has_them(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    account = f"{namespace}:reader"
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "reader")
    token = cluster.kubectl("-n", namespace, "create", "token", "reader")
    _write_account(cluster, token, tmp_path)
    host, port = _address(cluster)
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    async def main() -> None:
        access = in_cluster(tmp_path, environment, user_agent="tests")
        async with Client(access) as client:
            reflector = Reflector(
                client, CONFIG_MAPS, Thing.model_validate_json, namespace=namespace
            )
            task = asyncio.create_task(reflector.run())
            await until(lambda: reflector.trouble != "", "the trouble is told")
            assert f'User "system:serviceaccount:{account}" cannot list' in reflector.trouble
            await asyncio.to_thread(_allow, cluster, namespace, account)
            async with asyncio.timeout(60):
                await reflector.synced.wait()
            assert (await refusal(client.get(PODS, namespace, "any"))).forbidden
            task.cancel()

    asyncio.run(main())


def _allow(cluster: Cluster, namespace: str, account: str) -> None:
    verbs = "--verb=get,list,watch"
    cluster.kubectl("-n", namespace, "create", "role", "reader", verbs, "--resource=configmaps")
    who = f"--serviceaccount={account}"
    cluster.kubectl("-n", namespace, "create", "rolebinding", "reader", "--role=reader", who)


def _write_account(cluster: Cluster, token: str, folder: Path) -> None:
    raw = cluster.kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json")
    authority = json.loads(raw)["clusters"][0]["cluster"]["certificate-authority-data"]
    (folder / "ca.crt").write_bytes(base64.b64decode(authority))
    (folder / "token").write_text(token)


def _address(cluster: Cluster) -> tuple[str, str]:
    raw = cluster.kubectl("config", "view", "--minify", "--output=json")
    server = str(json.loads(raw)["clusters"][0]["cluster"]["server"])
    host, _, port = server.removeprefix("https://").partition(":")
    return host, port or "443"


# -- leadership -------------------------------------------------------------------------


@contextmanager
def controllers(
    cluster: Cluster, namespace: str, *names: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Controllers in processes of their own; the first leads."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            command = [sys.executable, "-m", "tests.cluster.kube_things"]
            command += [str(cluster.kubeconfig), namespace, name]
            started.append(subprocess.Popen(command, cwd=ROOT))
            if len(started) == 1:
                _wait(lambda: _holder(cluster, namespace) == names[0], "the first", seconds=60)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def _wait(true: Callable[[], bool], what: str, *, seconds: float) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def _holder(cluster: Cluster, namespace: str) -> str:
    path = ["-n", namespace, "get", "lease", "answering", "--ignore-not-found"]
    return cluster.kubectl(*path, "--output=jsonpath={.spec.holderIdentity}").strip()


def _ask(cluster: Cluster, namespace: str, question: str) -> None:
    cluster.apply(thing("question", asked=question), namespace=namespace)


def _answered_by(cluster: Cluster, namespace: str, question: str) -> str:
    path = ["-n", namespace, "get", "configmap", "question", "--output=json"]
    data = json.loads(cluster.kubectl(*path))["data"]
    return str(data["by"]) if data.get("answered") == question else ""


@pytest.mark.parametrize(
    ("how", "within"),
    [(signal.SIGKILL, 20.0), (signal.SIGTERM, 5.0)],
    ids=["killed: within 20 s", "asked to stop: at once"],
)
def test_a_successor_goes_on(
    cluster: Cluster, namespace: str, how: signal.Signals, within: float
) -> None:
    with controllers(cluster, namespace, "first", "second") as (first, _):
        _ask(cluster, namespace, "before")
        _wait(lambda: _answered_by(cluster, namespace, "before") == "first", "first", seconds=20)
        time.sleep(3.0)  # the second has filled its caches by then
        _ask(cluster, namespace, "before")
        first.send_signal(how)
        if how is signal.SIGKILL:
            first.wait()
        _ask(cluster, namespace, "after")
        took = _wait(
            lambda: _answered_by(cluster, namespace, "after") == "second", "second", seconds=60
        )
        print(f"{how.name}: the other had reconciled after {took:.1f} s")
        assert took <= within
        if how is signal.SIGTERM:
            assert first.wait(20) == 0


def test_who_loses_the_lease_leaves_at_once(cluster: Cluster, namespace: str) -> None:
    with controllers(cluster, namespace, "first") as (first,):
        patch = json.dumps({"spec": {"holderIdentity": "thief"}})
        command = ["-n", namespace, "patch", "lease", "answering", "--type=merge"]
        cluster.kubectl(*command, f"--patch={patch}")
        assert first.wait(2 * Terms().look + 5) == EXIT_CODE
        assert _holder(cluster, namespace) == "thief"


def test_a_frozen_leader_writes_nothing_when_it_wakes(cluster: Cluster, namespace: str) -> None:
    with controllers(cluster, namespace, "first", "second") as (first, _):
        _ask(cluster, namespace, "before")
        _wait(lambda: _answered_by(cluster, namespace, "before") == "first", "first", seconds=20)
        first.send_signal(signal.SIGSTOP)
        _wait(lambda: _holder(cluster, namespace) == "second", "second leads", seconds=30)
        # What it was told while it was frozen waits in its sockets, and asks for an answer.
        _ask(cluster, namespace, "after")
        _wait(lambda: _answered_by(cluster, namespace, "after") == "second", "second", seconds=20)
        first.send_signal(signal.SIGCONT)
        assert first.wait(10) == EXIT_CODE
        assert _answered_by(cluster, namespace, "after") == "second"
