"""What is sent for each verb, and what every kind of answer becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.kube.fake_server import (
    THINGS,
    Answer,
    DirectClient,
    FakeServer,
    client_of,
    fake_server,
    status,
    until,
)
from tests.unit.kube.virtual_time import run
from tunefleet.kube import client as module
from tunefleet.kube.client import Client, EventType, Page
from tunefleet.kube.errors import ApiError, Fenced
from tunefleet.kube.events import Regarding
from tunefleet.kube.resources import LEASES, PODS, Resource

THING = {"metadata": {"name": "a"}, "spec": {"size": 1}}
Act = Callable[[Client], Awaitable[object]]


def with_server(test: Callable[[FakeServer, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with fake_server() as server, client_of(server) as client:
            await test(server, client)

    asyncio.run(main())


async def refusal(act: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await act
    return caught.value


@pytest.mark.parametrize(
    ("resource", "asked", "path"),
    [
        (PODS, ("n", "a", "log"), "/api/v1/namespaces/n/pods/a/log"),
        (LEASES, ("n",), "/apis/coordination.k8s.io/v1/namespaces/n/leases"),
        (LEASES, (None,), "/apis/coordination.k8s.io/v1/leases"),
        (Resource("", "v1", "nodes", "Node", namespaced=False), (None, "a"), "/api/v1/nodes/a"),
        (PODS, ("n", "a/../b"), "/api/v1/namespaces/n/pods/a%2F..%2Fb"),
    ],
    ids=[
        "a subresource of the core group",
        "all of a namespace",
        "all of every namespace",
        "a kind without namespaces",
        "a name cannot leave its place",
    ],
)
def test_an_object_is_found_at_its_path(
    resource: Resource, asked: tuple[str | None, ...], path: str
) -> None:
    assert resource.path(*asked) == path


def test_a_name_without_its_namespace_is_refused_before_it_is_asked_for() -> None:
    with pytest.raises(ValueError, match="Pod a has a namespace"):
        PODS.path(None, "a")


@pytest.mark.parametrize(
    ("act", "method", "query", "content_type", "body"),
    [
        (
            lambda c: c.create(THINGS, "n", {"metadata": {"name": "b"}}),
            "POST",
            {"fieldValidation": "Strict"},
            "application/json",
            {"metadata": {"name": "b"}},
        ),
        (
            lambda c: c.patch(THINGS, "n", "a", {"status": {"done": True}}, sub="status"),
            "PATCH",
            {},
            "application/merge-patch+json",
            {"status": {"done": True}},
        ),
        (
            lambda c: c.apply(THINGS, "n", "a", THING, manager="me"),
            "PATCH",
            {"fieldManager": "me", "force": "true", "fieldValidation": "Strict"},
            "application/apply-patch+yaml",
            THING,
        ),
        (
            lambda c: c.delete(THINGS, "n", "a", uid="uid-1", grace_seconds=0),
            "DELETE",
            {},
            "application/json",
            {
                "propagationPolicy": "Background",
                "preconditions": {"uid": "uid-1"},
                "gracePeriodSeconds": 0,
            },
        ),
    ],
    ids=[
        "create refuses unknown fields",
        "patch merges into a subresource",
        "apply owns its fields",
        "delete names the very object",
    ],
)
def test_a_write_says_all_it_means(
    act: Act, method: str, query: dict[str, str], content_type: str, body: object
) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.put("a")
        await act(client)
        (sent,) = server.requests
        assert (sent.method, sent.query, sent.body) == (method, query, body)
        assert sent.headers["Content-Type"] == content_type
        assert sent.headers["Authorization"] == "Bearer secret"
        assert sent.headers["User-Agent"] == "tests"

    with_server(test)


@pytest.mark.parametrize(
    ("answer", "what", "said"),
    [
        (Answer(404, status(404, "NotFound", "no a")), "not_found", "404 NotFound: no a"),
        (Answer(409, status(409, "Conflict", "old")), "conflict", "409 Conflict: old"),
        (
            Answer(409, status(409, "AlreadyExists", "a is there")),
            "already_exists",
            "409 AlreadyExists: a is there",
        ),
        (Answer(410, status(410, "Gone", "late")), "gone", "410 Gone: late"),
        (Answer(403, status(403, "Forbidden", "no")), "forbidden", "403 Forbidden: no"),
        (Answer(401, status(401, "Unauthorized", "who")), "unauthorized", "401 Unauthorized: who"),
        (Answer(422, status(422, "Invalid", "spec.size")), "invalid", "422 Invalid: spec.size"),
        (Answer(502, b"<h1>Bad\n gateway</h1>"), "", "502: <h1>Bad gateway</h1>"),
        (Answer(200, b"<h1>Log in</h1>"), "unreachable", "Unreachable: the answer is not a JSON"),
    ],
    ids=[
        "not there",
        "changed since",
        "name taken",
        "too old",
        "no rights",
        "who is that",
        "refused by its content",
        "a gateway's page is quoted in a line",
        "a page that is not the API's",
    ],
)
def test_an_answer_becomes_an_error_that_says_what_to_do(
    answer: Answer, what: str, said: str
) -> None:
    kinds = ["not_found", "conflict", "already_exists", "gone", "forbidden", "invalid"]
    kinds += ["unauthorized", "unreachable", "too_many_requests"]

    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(answer)
        error = await refusal(client.get(THINGS, "n", "a"))
        assert str(error).startswith(said)
        assert [kind for kind in kinds if getattr(error, kind)] == ([what] if what else [])

    with_server(test)


def test_a_validation_tells_its_fields() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        causes = [{"field": "spec.size", "message": "must be positive"}]
        server.answers.append(Answer(422, status(422, "Invalid", "x", causes=causes)))
        error = await refusal(client.create(THINGS, "n", THING))
        assert error.details["causes"] == causes

    with_server(test)


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def main() -> ApiError:
        async with fake_server() as server:
            pass
        async with client_of(server) as client:
            return await refusal(client.get(THINGS, "n", "a"))

    error = asyncio.run(main())
    assert error.unreachable
    assert "/apis/test.dev/v1/namespaces/n/things/a" in error.message


def test_deleting_what_is_gone_or_was_replaced_is_fine() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        await client.delete(THINGS, "n", "nothing")
        server.put("a")
        await client.delete(THINGS, "n", "a", uid="of one before")
        assert (await client.get(THINGS, "n", "a"))["metadata"]

    with_server(test)


def test_a_write_waits_as_long_as_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        slept = _record_sleeps(monkeypatch)
        busy = Answer(429, status(429, "TooManyRequests"), {"Retry-After": "7"})
        server.answers.extend([busy, Answer(429, status(429, "", retryAfterSeconds=3))])
        await client.create(THINGS, "n", THING)
        assert 7 <= slept[0] <= 10.5
        assert 3 <= slept[1] <= 4.5
        assert len(server.asked("POST")) == 3

    with_server(test)


def test_a_server_that_asks_for_pauses_for_ever_is_given_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        slept = _record_sleeps(monkeypatch)
        busy = Answer(429, status(429, "TooManyRequests"), {"Retry-After": "1"})
        server.answers.extend([busy] * 20)
        error = await refusal(client.create(THINGS, "n", THING))
        assert (error.too_many_requests, error.retry_after) == (True, 1.0)
        assert len(slept) == module.PAUSES_AT_MOST

    with_server(test)


@pytest.mark.parametrize("code", [500, 503, 504])
def test_no_other_answer_is_tried_again_by_the_client(code: int) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(Answer(code, status(code, "Broken")))
        assert (await refusal(client.create(THINGS, "n", THING))).status == code
        assert len(server.requests) == 1

    with_server(test)


def test_writes_keep_their_pace_and_reads_do_not_wait() -> None:
    async def main() -> tuple[float, float]:
        server = FakeServer()
        server.put("a")
        client = DirectClient(server, writes_per_second=20)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(client.patch(THINGS, "n", "a", {"x": i}) for i in range(5)))
        written = loop.time()
        await asyncio.gather(*(client.get(THINGS, "n", "a") for _ in range(5)))
        return written, loop.time() - written

    written, read = run(main())
    assert written == pytest.approx(4 / 20)
    assert read == 0.0


def test_a_closed_fence_lets_reads_and_events_through_and_no_write() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.put("a")
        client.fence(lambda: False)
        assert await client.get(THINGS, "n", "a")
        for write in (
            client.create(THINGS, "n", THING),
            client.patch(THINGS, "n", "a", {}),
            client.apply(THINGS, "n", "a", THING, manager="me"),
            client.delete(THINGS, "n", "a"),
        ):
            with pytest.raises(Fenced, match="no longer leads"):
                await write
        assert [request.method for request in server.requests] == ["GET"]
        regarding = Regarding(THINGS, "n", "a", "uid-1")
        await client.event(regarding, kind="Normal", reason="Left", action="Leave", note="bye")
        await until(lambda: len(server.asked("POST", plural="events")) == 1)

    with_server(test)


def test_a_write_that_was_told_to_wait_is_not_sent_by_who_no_longer_leads() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(Answer(429, status(429, "TooManyRequests"), {"Retry-After": "0"}))
        leads = iter([True, False])
        client.fence(lambda: next(leads))
        with pytest.raises(Fenced, match="no longer leads"):
            await client.create(THINGS, "n", THING)
        assert len(server.asked("POST")) == 1

    with_server(test)


async def pages(client: Client, limit: int) -> list[Page]:
    return [page async for page in client.list_pages(THINGS, limit=limit)]


def test_a_list_comes_in_pages_of_one_version() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        for name in "abcde":
            server.put(name)
        found = await pages(client, 2)
        assert [len(items) for _, items in found] == [2, 2, 1]
        assert {version for version, _ in found} == {"105"}

    with_server(test)


@pytest.mark.parametrize(
    ("weight", "limits"),
    [(10, [3, 5, 5]), (2000, [3, 5, 5]), (40_000, [3, 2, 2, 2, 2, 2])],
    ids=["light objects", "middling ones", "heavy ones"],
)
def test_a_page_holds_what_some_memory_can_hold(
    weight: int, limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAGE", 3)
    monkeypatch.setattr(module, "PAGE_BYTES", 100_000)

    async def test(server: FakeServer, client: Client) -> None:
        for number in range(13):
            server.put(f"x{number}", text="x" * weight)
        assert sum(len(page.items) for page in await pages(client, 5)) == 13
        assert [int(request.query["limit"]) for request in server.requests] == limits

    with_server(test)


def test_a_list_whose_token_expired_begins_anew() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        for name in "abcd":
            server.put(name)

        def forget(request: object) -> None:
            if len(server.requests) == 2:
                server.forget_history()
                server.put("e")

        server.on_request = forget
        found = await pages(client, 2)
        assert [(version, len(items)) for version, items in found] == [
            ("104", 2),
            ("106", 2),
            ("106", 2),
            ("106", 1),
        ]

    with_server(test)


def test_a_list_that_expires_again_and_again_is_given_up_on() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        for name in "abc":
            server.put(name)
        server.on_request = lambda request: server.forget_history()
        with pytest.raises(ApiError) as caught:
            await pages(client, 1)
        assert caught.value.gone
        assert len(server.requests) == 2 * (module.LISTS_AT_MOST + 1)

    with_server(test)


def test_a_list_is_of_its_namespace_and_labels() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.put("a", "n")
        server.put("a", "m")
        found = [page async for page in client.list_pages(THINGS, "m", labels="a in (b, c)")]
        assert len(found[0].items) == 1
        assert server.requests[0].query == {"limit": "100", "labelSelector": "a in (b, c)"}

    with_server(test)


def test_a_list_that_is_cut_short_is_no_list() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(Answer(200, b'{"items":[{"a":1},'))
        with pytest.raises(ApiError) as caught:
            await pages(client, 5)
        assert caught.value.unreachable

    with_server(test)


def test_a_watch_says_what_happens_after_its_version() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.put("old")
        version = str(server.version)
        server.put("new", size="x" * 300_000)
        seen: list[EventType] = []
        bodies: list[bytes] = []
        async for event in client.watch(THINGS, resource_version=version):
            seen.append(event.type)
            bodies.append(event.body)
            if event.type is EventType.ADDED:
                server.drop("new")
            elif event.type is EventType.DELETED:
                server.bookmark()
            else:
                server.end_watches()
        assert seen == [EventType.ADDED, EventType.DELETED, EventType.BOOKMARK]
        assert len(bodies[0]) > 300_000
        query = server.requests[0].query
        assert query["allowWatchBookmarks"] == "true"
        assert 300 <= int(query["timeoutSeconds"]) <= 600

    with_server(test)


@pytest.mark.parametrize("in_stream", [False, True], ids=["by its status", "inside the stream"])
def test_a_watch_of_a_version_too_old_is_gone(in_stream: bool) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.forget_history()
        server.gone_in_stream = in_stream
        events = client.watch(THINGS, resource_version="1")
        error = await refusal(anext(events))
        assert error.gone

    with_server(test)


def test_a_watch_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)

    async def test(server: FakeServer, client: Client) -> None:
        error = await refusal(anext(client.watch(THINGS, resource_version="100")))
        assert error.unreachable

    with_server(test)


@pytest.mark.parametrize(
    "line",
    ["nonsense", {"type": "SURPRISE", "object": {}}, {"type": "ADDED"}],
    ids=["no event", "an event of a type unknown", "an event of no object"],
)
def test_a_watch_that_cannot_be_read_is_ended(line: object) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        reading = asyncio.create_task(refusal(anext(client.watch(THINGS, resource_version="100"))))
        await until(lambda: server.watching == 1)
        server.say(line)
        assert (await reading).unreachable

    with_server(test)


def test_a_pods_last_lines_are_text() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        assert await client.pod_log("n", "p", "c", tail_lines=2) == "first line\nlast line\n"
        query = server.requests[0].query
        assert (query["container"], query["tailLines"]) == ("c", "2")
        assert int(query["limitBytes"]) > 0

    with_server(test)


@pytest.mark.parametrize("follow", [True, False], ids=["as it grows", "as it is"])
def test_a_log_is_read_line_by_line_to_the_end(follow: bool) -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(Answer(200, "first\n\nünd last, unended".encode()))
        lines = [line async for line in client.log_lines("n", "p", "c", follow=follow)]
        assert lines == ["first", "", "ünd last, unended"]
        query = server.requests[0].query
        assert (query["container"], query["follow"]) == ("c", str(follow).lower())

    with_server(test)


def test_a_pod_without_a_node_has_no_lines() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        server.answers.append(Answer(204, b""))
        assert [line async for line in client.log_lines("n", "p", "c")] == []

    with_server(test)


def test_a_log_that_cannot_be_read_says_why() -> None:
    async def test(server: FakeServer, client: Client) -> None:
        said = status(400, "BadRequest", "container c is waiting to start")
        server.answers.append(Answer(400, said))
        with pytest.raises(ApiError, match="waiting to start"):
            [line async for line in client.log_lines("n", "p", "c")]

    with_server(test)


def _record_sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept
