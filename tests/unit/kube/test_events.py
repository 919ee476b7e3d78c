"""Users read each event once, with its count; and nobody waits for one or fails by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from tests.unit.kube.fake_server import THINGS, Answer, client_of, fake_server, status
from tests.unit.kube.virtual_time import run
from tunefleet.kube import events as module
from tunefleet.kube.errors import ApiError
from tunefleet.kube.events import Recorder, Regarding
from tunefleet.kube.resources import Document, Resource

A = Regarding(THINGS, "n", "a", "uid-a")
B = Regarding(THINGS, "n", "b", "uid-b")


class Written:
    """A recorder and what it wrote."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.made: list[Mapping[str, object]] = []
        self.counted: list[tuple[str, object]] = []
        self._refuse = refuse
        self.recorder = Recorder(self._create, self._patch, controller="tests")

    async def _create(
        self, resource: Resource, namespace: str, body: Mapping[str, object]
    ) -> Document:
        if self._refuse:
            raise ApiError(403, "Forbidden", "the namespace is being terminated")
        await asyncio.sleep(0.1)
        self.made.append(body)
        return {}

    async def _patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, object]
    ) -> Document:
        series = body["series"]
        assert isinstance(series, dict)
        self.counted.append((name, series["count"]))
        return {}

    def say(self, regarding: Regarding = A, note: str = "hello", reason: str = "Tested") -> None:
        self.recorder.say(regarding, kind="Normal", reason=reason, action="Test", note=note)

    @property
    def notes(self) -> list[object]:
        return [event["note"] for event in self.made]


def test_an_event_says_what_happened_to_what_and_who_says_so() -> None:
    async def main() -> Mapping[str, object]:
        written = Written()
        written.say()
        await written.recorder.flush()
        return written.made[0]

    event = dict(run(main()))
    metadata = event.pop("metadata")
    assert isinstance(metadata, dict)
    assert metadata["namespace"] == "n"
    assert metadata["name"].startswith("a.")
    assert isinstance(event.pop("eventTime"), str)
    assert event.pop("reportingInstance")
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "type": "Normal",
        "reason": "Tested",
        "action": "Test",
        "note": "hello",
        "reportingController": "tests",
        "regarding": {
            "apiVersion": "test.dev/v1",
            "kind": "Thing",
            "namespace": "n",
            "name": "a",
            "uid": "uid-a",
        },
    }


def test_what_is_said_again_is_counted_once_a_minute() -> None:
    async def main() -> Written:
        written = Written()
        for _ in range(100):
            written.say()
            await asyncio.sleep(1.0)
        await written.recorder.flush()
        return written

    written = run(main())
    assert len(written.made) == 1
    assert [count for _, count in written.counted] == [61, 100]


def test_what_is_said_again_much_later_is_a_new_event() -> None:
    async def main() -> list[object]:
        written = Written()
        written.say()
        await asyncio.sleep(module.SERIES_SECONDS + 1)
        written.say()
        await written.recorder.flush()
        return written.notes

    assert run(main()) == ["hello", "hello"]


def test_another_note_reason_or_object_is_another_event() -> None:
    async def main() -> list[object]:
        written = Written()
        written.say()
        written.say(note="another")
        written.say(reason="Other")
        written.say(B)
        await written.recorder.flush()
        return written.notes

    assert sorted(map(str, run(main()))) == ["another", "hello", "hello", "hello"]


def test_an_object_that_is_spoken_of_all_the_time_does_not_drown_the_others() -> None:
    async def main() -> tuple[int, bool]:
        written = Written()
        for number in range(100):
            written.say(A, note=str(number))
        written.say(B, note="heard")
        await written.recorder.flush()
        return len(written.made), "heard" in written.notes

    assert run(main()) == (module.OBJECT_BURST + 1, True)


def test_a_long_note_is_cut_to_what_the_server_takes() -> None:
    async def main() -> object:
        written = Written()
        written.say(note="é" * 2000)
        await written.recorder.flush()
        return written.notes[0]

    assert run(main()) == "é" * (module.NOTE_BYTES // 2)


def test_a_refused_event_is_no_failure_and_is_said_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[object]:
        written = Written(refuse=True)
        written.say()
        await asyncio.sleep(1.0)
        written._refuse = False
        written.say()
        await asyncio.sleep(module.COUNT_SECONDS + 1)
        written.say()
        await written.recorder.flush()
        return written.notes

    assert run(main()) == ["hello"]
    assert "the namespace is being terminated" in caplog.text


def test_saying_is_at_once_however_slow_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_AT_MOST", 3)

    async def main() -> tuple[float, int]:
        written = Written()
        for number in range(10):
            written.say(note=str(number))
        said = asyncio.get_running_loop().time()
        await written.recorder.flush()
        return said, len(written.made)

    assert run(main()) == (0.0, 3)


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_AT_MOST", 4)

    async def main() -> Written:
        written = Written()
        for number in range(20):
            written.say(Regarding(THINGS, "n", f"x{number}", f"uid-{number}"))
            await asyncio.sleep(1.0)
        return written

    written = run(main())
    assert len(written.made) == 20
    assert len(written.recorder._series) == len(written.recorder._buckets) == 4


def test_a_client_writes_its_last_events_before_it_ends() -> None:
    async def main() -> list[object]:
        async with fake_server() as server:
            server.answers.append(Answer(429, status(429, "", retryAfterSeconds=0)))
            async with client_of(server) as client:
                await client.event(A, kind="Warning", reason="R", action="Act", note="hello")
                await client.event(A, kind="Warning", reason="R", action="Act", note="hello")
            return list(server.objects["events"].values())

    (event,) = asyncio.run(main())
    said = json.loads(json.dumps(event))
    assert (said["note"], said["series"]["count"], said["type"]) == ("hello", 2, "Warning")
    assert said["reportingController"] == "tests"
