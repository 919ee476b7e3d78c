"""A driver hears what the leader in another pod says, each event once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.channel.server import OneObject, one_object
from tunefleet.api.words import Phase
from tunefleet.channel.folder import RunEnd
from tunefleet.channel.listening import Listener, after
from tunefleet.channel.relay import Relay
from tunefleet.channel.schema import Event, Progress


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OneObject]:
    (tmp_path / "account").mkdir()
    with one_object(tmp_path / "account") as found:
        yield found


def messages(listener: Listener) -> list[str]:
    return [event.message for event in listener.events()]


def test_what_a_leader_relays_is_heard_once(server: OneObject, tmp_path: Path) -> None:
    run, listener = RunEnd(tmp_path / "run"), Listener(server.attempt, every=0)
    relay = Relay(server.attempt, tmp_path / "run", every=0)
    assert messages(listener) == []
    assert listener.progress() is None
    run.event(Event(kind="warning", message="a"))
    run.progress(
        Progress(phase=Phase.RUNNING, step=3, total_steps=9, epoch=0.1, epochs=1, workers=2)
    )
    relay.tell()
    assert messages(listener) == ["a"]
    assert messages(listener) == []
    heard = listener.progress()
    assert heard is not None
    assert heard.step == 3
    run.event(Event(kind="warning", message="a"))
    relay.tell()
    assert messages(listener) == ["a"], "the same words again are another event"


def test_a_server_that_is_silent_is_listened_to_again(server: OneObject) -> None:
    server.status = {"events": [{"kind": "warning", "message": "a"}]}
    listener = Listener(server.attempt, every=0)
    server.answers = [503]
    assert messages(listener) == []
    assert messages(listener) == ["a"]


def test_it_is_not_listened_to_more_often_than_agreed(server: OneObject) -> None:
    now = [0.0]
    listener = Listener(server.attempt, every=10, now=lambda: now[0])
    for _ in range(25):
        listener.events()
        now[0] += 1
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("known", "told", "fresh"),
    [
        pytest.param("", "ab", "ab", id="all is new at first"),
        pytest.param("ab", "abc", "c", id="one more"),
        pytest.param("abc", "bcd", "d", id="the oldest has made room"),
        pytest.param("aa", "aaa", "a", id="the same again"),
        pytest.param("abc", "xyz", "xyz", id="another leader tells its own"),
        pytest.param("abc", "", "", id="nothing is told any more"),
    ],
)
def test_events_that_come_after_what_is_known(known: str, told: str, fresh: str) -> None:
    def those(letters: str) -> list[dict[str, object]]:
        return [{"message": letter} for letter in letters]

    assert after(those(known), those(told)) == those(fresh)
