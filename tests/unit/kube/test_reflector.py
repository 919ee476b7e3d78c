"""The cache becomes and stays what the server has, whatever happens to list and watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self, cast

import pytest
from pydantic import BaseModel, Field

from tests.unit.kube.fake_server import THINGS, Answer, FakeServer, client_of, fake_server, status
from tests.unit.kube.fake_server import until as until_true
from tests.unit.kube.virtual_time import run
from tunefleet.kube import client as client_module
from tunefleet.kube import reflector as module
from tunefleet.kube.client import Client, Page
from tunefleet.kube.errors import ApiError
from tunefleet.kube.reflector import Reflector
from tunefleet.kube.resources import Resource


class _Owner(BaseModel):
    uid: str
    controller: bool = False


class _Metadata(BaseModel):
    name: str
    namespace: str
    uid: str
    resource_version: str = Field(alias="resourceVersion")
    owners: list[_Owner] = Field([], alias="ownerReferences")


class Thing(BaseModel):
    """A projection as a controller would write it."""

    metadata: _Metadata
    size: int = 0

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def resource_version(self) -> str:
        return self.metadata.resource_version

    @property
    def owner_uid(self) -> str | None:
        return next((owner.uid for owner in self.metadata.owners if owner.controller), None)

    def packed(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def unpacked(cls, body: bytes) -> Self:
        return cls.model_validate_json(body)


class Followed:
    """A server, a reflector that follows it, and the changes that it told."""

    def __init__(self, server: FakeServer, reflector: Reflector[Thing]) -> None:
        self.server = server
        self.reflector = reflector
        self.told: list[tuple[str | None, str | None]] = []

    def changed(self, old: Thing | None, new: Thing | None) -> None:
        self.told.append((_short(old), _short(new)))

    @property
    def known(self) -> dict[str, int]:
        return {thing.name: thing.size for thing in self.reflector.cache.all()}

    async def knows(self, known: dict[str, int]) -> None:
        try:
            await until_true(lambda: self.known == known)
        except TimeoutError:
            raise AssertionError(f"{self.known} is known, not {known}") from None

    async def watches(self) -> None:
        await self.reflector.synced.wait()
        await until_true(lambda: self.server.watching == 1)


def _short(thing: Thing | None) -> str | None:
    return f"{thing.name}={thing.size}" if thing is not None else None


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


OLDER_THINGS = Resource("test.dev", "v1beta1", "things", "Thing")


@asynccontextmanager
async def following(
    server: FakeServer, *, may_be_absent: bool = False, or_else: Sequence[Resource] = ()
) -> AsyncIterator[Followed]:
    async with client_of(server) as client:
        followed: Followed

        def changed(old: Thing | None, new: Thing | None) -> None:
            followed.changed(old, new)

        reflector = Reflector(
            client,
            THINGS,
            Thing.model_validate_json,
            changed=changed,
            may_be_absent=may_be_absent,
            or_else=or_else,
        )
        followed = Followed(server, reflector)
        task = asyncio.create_task(reflector.run())
        try:
            yield followed
        finally:
            assert not task.done(), task
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def follow(test: Callable[[Followed], Awaitable[None]]) -> None:
    """With ``a`` of size 1 there, and watched."""

    async def main() -> None:
        async with fake_server() as server:
            server.put("a", size=1)
            async with following(server) as followed:
                await followed.watches()
                await test(followed)

    asyncio.run(main())


def lists(server: FakeServer) -> int:
    return len([request for request in server.asked("GET") if request.query["limit"] != "1"])


def test_what_is_there_and_what_happens_is_told_once() -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("b", size=1)
        server.put("a", size=2)
        server.drop("b")
        await followed.knows({"a": 2})
        assert followed.told == [
            (None, "a=1"),
            (None, "b=1"),
            ("a=1", "a=2"),
            ("b=1", None),
        ]
        assert lists(server) == 1

    follow(test)


def test_a_watch_begins_at_the_lists_version() -> None:
    async def test(followed: Followed) -> None:
        (watch,) = followed.server.asked("GET", watch=True)
        assert watch.query["resourceVersion"] == "101"

    follow(test)


@pytest.mark.parametrize("how", ["end", "cut"], ids=["ends it", "is lost"])
def test_after_a_watch_the_next_goes_on_where_it_was(how: str) -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("b", size=2)
        await followed.knows({"a": 1, "b": 2})
        server.end_watches() if how == "end" else server.cut_watches()
        server.put("c", size=3)
        await followed.knows({"a": 1, "b": 2, "c": 3})
        first, second = server.asked("GET", watch=True)[:2]
        assert (first.query["resourceVersion"], second.query["resourceVersion"]) == ("101", "102")
        assert lists(server) == 1

    follow(test)


def test_a_bookmark_moves_the_place_to_go_on_from() -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("other", collection="others")
        server.bookmark()
        server.end_watches()
        await until_true(lambda: len(server.asked("GET", watch=True)) == 2)
        assert server.asked("GET", watch=True)[1].query["resourceVersion"] == "102"

    follow(test)


def test_a_silent_watch_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.2)

    async def test(followed: Followed) -> None:
        followed.server.silent = True
        followed.server.put("b", size=2)
        await asyncio.sleep(0.1)
        assert followed.known == {"a": 1}
        followed.server.silent = False
        await followed.knows({"a": 1, "b": 2})
        assert lists(followed.server) == 1

    follow(test)


@pytest.mark.parametrize("in_stream", [False, True], ids=["by its status", "inside the stream"])
def test_a_forgotten_history_is_made_up_for_by_a_list(in_stream: bool) -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("b", size=1)
        server.put("stays", size=1)
        await followed.knows({"a": 1, "b": 1, "stays": 1})
        followed.told.clear()
        server.gone_in_stream = in_stream
        server.silent = True
        server.drop("b")
        server.put("a", size=2)
        server.put("c", size=3)
        server.silent = False
        server.forget_history()
        server.end_watches()
        await followed.knows({"a": 2, "c": 3, "stays": 1})
        await until_true(lambda: len(followed.told) == 3)
        assert sorted(followed.told, key=str) == [
            ("a=1", "a=2"),
            ("b=1", None),
            (None, "c=3"),
        ]
        assert lists(server) == 2

    follow(test)


def test_a_cut_after_a_good_while_is_no_trouble_and_no_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.0)
    monkeypatch.setattr(module, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 60.0)

    async def test(followed: Followed) -> None:
        followed.server.cut_watches()
        followed.server.put("b", size=2)
        await followed.knows({"a": 1, "b": 2})
        assert followed.reflector.trouble == ""

    follow(test)
    assert [record for record in caplog.records if record.name == "tunefleet.kube"] == []


def test_an_object_deleted_and_made_again_in_between_is_another() -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        before = followed.reflector.cache.get("n", "a")
        server.silent = True
        server.drop("a")
        server.put("a", size=5)
        server.silent = False
        server.forget_history()
        server.end_watches()
        await followed.knows({"a": 5})
        after = followed.reflector.cache.get("n", "a")
        assert before is not None
        assert after is not None
        assert before.uid != after.uid
        assert followed.told[-1] == ("a=1", "a=5")

    follow(test)


def test_a_restored_server_is_listed_though_its_watch_would_stay_silent() -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        taken = server.snapshot()
        for size in range(2, 6):
            server.put("a", size=size)
        server.put("b", size=1)
        await followed.knows({"a": 5, "b": 1})
        server.restore(taken)
        await followed.knows({"a": 1})
        server.put("c", size=9)
        await followed.knows({"a": 1, "c": 9})
        assert lists(server) == 2

    follow(test)


def test_an_event_from_the_past_is_a_restored_server_too() -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        past = {"name": "z", "namespace": "n", "uid": "u", "resourceVersion": "7"}
        server.say({"type": "ADDED", "object": {"metadata": past}})
        await until_true(lambda: lists(server) == 2)
        await followed.knows({"a": 1})

    follow(test)


def test_a_server_in_trouble_is_asked_again_until_it_is_well() -> None:
    async def main() -> None:
        async with fake_server() as server:
            server.answers.extend([Answer(500, status(500, "Broken", "no leader"))] * 10_000)
            server.put("a", size=1)
            async with following(server) as followed:
                await until_true(lambda: lists(server) == 3)
                assert followed.reflector.trouble == "things: 500 Broken: no leader"
                assert not followed.reflector.synced.is_set()
                server.answers.clear()
                await followed.knows({"a": 1})
                await followed.watches()
                assert followed.reflector.trouble == ""

    asyncio.run(main())


class _Broken:
    """A client whose lists fail, and when they were asked for."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def list_pages(self, *_: object, **__: object) -> AsyncIterator[Page]:
        self.asked.append(asyncio.get_running_loop().time())
        raise ApiError(500, "Broken", "no leader")
        yield


def test_pauses_grow_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 10.0)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    async def main() -> list[float]:
        broken = _Broken()
        reflector = Reflector(cast(Client, broken), THINGS, Thing.model_validate_json)
        task = asyncio.create_task(reflector.run())
        await asyncio.sleep(40.0)
        task.cancel()
        return broken.asked

    assert run(main()) == [0, 1, 3, 7, 15, 25, 35]


def test_a_list_that_begins_anew_forgets_what_it_saw_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with fake_server() as server:
            for name in "abc":
                server.put(name, size=1)

            def forget(request: object) -> None:
                if len(server.requests) == 2:
                    server.forget_history()
                    server.drop("a")

            server.on_request = forget
            monkeypatch.setattr(
                client_module.Client.list_pages,
                "__kwdefaults__",
                {"labels": "", "limit": 1},
            )
            async with following(server) as followed:
                await followed.watches()
                assert followed.known == {"b": 1, "c": 1}
                assert followed.told[-1] == ("a=1", None)

    asyncio.run(main())


def test_an_object_that_cannot_be_read_keeps_what_was_known_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("a", size="huge")
        server.put("never", size="huge")
        server.put("b", size=2)
        await followed.knows({"a": 1, "b": 2})
        # Still there after a list, which names it and cannot read it either.
        server.forget_history()
        server.end_watches()
        await until_true(lambda: lists(server) == 2)
        await followed.watches()
        assert followed.known == {"a": 1, "b": 2}
        server.put("a", size=3)
        await followed.knows({"a": 3, "b": 2})

    with caplog.at_level(logging.ERROR):
        follow(test)
    assert "Thing n/a cannot be read; what was known of it before is kept" in caplog.text


def test_an_object_too_deep_to_be_parsed_stops_no_other() -> None:
    deep: object = 1
    for _ in range(300):
        deep = {"a": deep}

    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("deep", size=deep)
        server.put("a", size=1)
        await followed.knows({"a": 1})
        server.forget_history()
        server.end_watches()
        await until_true(lambda: lists(server) == 2)
        await followed.watches()
        server.put("b", size=2)
        await followed.knows({"a": 1, "b": 2})

    follow(test)


@pytest.mark.parametrize(
    ("answer", "true"),
    [(None, True), (Answer(500, status(500, "Broken")), False)],
    ids=["not while the server answers", "while it does not"],
)
def test_what_is_not_there_is_in_doubt(answer: Answer | None, true: bool) -> None:
    async def test(followed: Followed) -> None:
        server = followed.server
        server.put("a", size=1)
        await followed.knows({"a": 1})
        assert followed.reflector.true
        if answer is not None:
            server.answers.append(answer)
            server.end_watches()
            await until_true(lambda: bool(followed.reflector.trouble))
        assert followed.reflector.true == true

    follow(test)


def test_who_fails_to_hear_of_a_change_does_not_stop_the_cache(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(old: Thing | None, new: Thing | None) -> None:
        raise RuntimeError("a mistake")

    async def main() -> None:
        async with fake_server() as server, client_of(server) as client:
            server.put("a", size=1)
            reflector = Reflector(client, THINGS, Thing.model_validate_json, changed=fails)
            task = asyncio.create_task(reflector.run())
            await reflector.synced.wait()
            assert len(reflector.cache) == 1
            task.cancel()

    asyncio.run(main())
    assert "a change of things could not be told" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    ["no event", {"type": "ADDED", "object": {"metadata": 7}}, {"type": "NEW", "object": {}}],
    ids=["a line that is no event", "an object without metadata", "an unknown type"],
)
def test_a_watch_that_says_nonsense_is_opened_again(garbage: object) -> None:
    async def test(followed: Followed) -> None:
        followed.server.say(garbage)
        await until_true(lambda: len(followed.server.asked("GET", watch=True)) == 2)
        followed.server.put("b", size=2)
        await followed.knows({"a": 1, "b": 2})

    follow(test)


def test_a_kind_that_may_be_absent_counts_as_empty_until_it_is_there() -> None:
    async def main() -> None:
        async with fake_server() as server:
            server.absent.add("things")
            async with following(server, may_be_absent=True) as followed:
                await followed.reflector.synced.wait()
                assert not followed.reflector.served
                assert followed.reflector.trouble == ""
                server.put("a", size=1)
                server.absent.clear()
                await followed.knows({"a": 1})
                await until_true(lambda: followed.reflector.served)
                await followed.watches()
                server.absent.add("things")
                server.cut_watches()
                await followed.knows({})
                assert followed.told == [(None, "a=1"), ("a=1", None)]
                assert not followed.reflector.served

    asyncio.run(main())


def test_a_kind_is_followed_under_the_version_that_the_cluster_has() -> None:
    async def main() -> None:
        async with fake_server() as server:
            server.absent |= {"test.dev/v1"}
            server.put("a", size=1)
            older = (OLDER_THINGS,)
            async with following(server, may_be_absent=True, or_else=older) as followed:
                await followed.knows({"a": 1})
                await followed.watches()
                assert followed.reflector.served
                assert followed.reflector.resource == OLDER_THINGS
                # An upgrade that no longer serves what is followed.
                server.absent = {"test.dev/v1beta1"}
                server.cut_watches()
                server.put("a", size=2)
                await followed.knows({"a": 2})
                assert followed.reflector.resource == THINGS
                server.absent |= {"test.dev/v1"}
                server.cut_watches()
                await followed.knows({})
                assert not followed.reflector.served

    asyncio.run(main())


def test_a_kind_that_no_version_has_counts_as_empty_once_all_were_tried() -> None:
    async def main() -> None:
        async with fake_server() as server:
            server.absent.add("things")
            async with following(server, may_be_absent=True, or_else=(OLDER_THINGS,)) as followed:
                await followed.reflector.synced.wait()
                asked = [request.path.split("/")[3] for request in server.asked("GET")]
                assert asked[:2] == ["v1", "v1beta1"]
                assert not followed.reflector.served

    asyncio.run(main())


def test_a_kind_that_must_be_there_is_waited_for() -> None:
    async def main() -> None:
        async with fake_server() as server:
            server.absent.add("things")
            server.put("a", size=1)
            async with following(server) as followed:
                await until_true(lambda: lists(server) > 1)
                assert not followed.reflector.synced.is_set()
                assert "could not find the requested resource" in followed.reflector.trouble
                server.absent.clear()
                await followed.knows({"a": 1})

    asyncio.run(main())
