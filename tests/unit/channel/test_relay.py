"""What a run says reaches its attempt in time and not too often, and commands come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.channel.server import OneObject, a_spec, one_object
from tunefleet.api.attempt import EVENTS_KEPT
from tunefleet.api.words import Command, Phase
from tunefleet.channel.folder import RunEnd
from tunefleet.channel.relay import Relay
from tunefleet.channel.schema import Event, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OneObject]:
    (tmp_path / "account").mkdir()
    with one_object(tmp_path / "account") as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(tmp_path: Path) -> RunEnd:
    return RunEnd(tmp_path / "run")


@pytest.fixture
def relay(server: OneObject, tmp_path: Path, clock: Clock) -> Relay:
    return Relay(server.attempt, tmp_path / "run", every=10, soon=2, now=clock)


def at(step: int, phase: Phase = Phase.RUNNING) -> Progress:
    return Progress(phase=phase, step=step, total_steps=100, epoch=step / 100, epochs=1, workers=2)


def test_progress_is_told_at_most_every_ten_seconds(
    server: OneObject, relay: Relay, run: RunEnd, clock: Clock
) -> None:
    for step in range(30):
        run.progress(at(step))
        relay.tell()
        clock.now += 1
    assert len(server.requests) == 3
    assert server.status["progress"]["step"] == 20


def test_another_phase_or_an_event_is_told_sooner(
    server: OneObject, relay: Relay, run: RunEnd, clock: Clock
) -> None:
    run.progress(at(1))
    relay.tell()
    clock.now += 2
    run.event(Event(kind="checkpoint", message="saved", step=1))
    relay.tell()
    clock.now += 2
    run.progress(at(2, Phase.EVALUATING))
    relay.tell()
    assert server.status["progress"]["phase"] == "Evaluating"
    assert server.status["events"] == [{"kind": "checkpoint", "message": "saved", "step": 1}]


def test_only_the_newest_events_are_kept(
    server: OneObject, relay: Relay, run: RunEnd, clock: Clock
) -> None:
    for number in range(EVENTS_KEPT + 5):
        run.event(Event(kind="warning", message=str(number)))
    relay.tell()
    told = [event["message"] for event in server.status["events"]]
    assert told == [str(number) for number in range(5, EVENTS_KEPT + 5)]


def test_what_could_not_be_told_is_told_with_the_next_patch(
    server: OneObject, relay: Relay, run: RunEnd, clock: Clock
) -> None:
    run.event(Event(kind="warning", message="a"))
    server.answers = [503]
    relay.tell()
    assert server.status == {}
    clock.now += 10
    relay.tell()
    assert [event["message"] for event in server.status["events"]] == ["a"]


def test_a_command_is_asked_of_the_run_once(
    server: OneObject, relay: Relay, run: RunEnd, clock: Clock
) -> None:
    server.spec = a_spec(command="CheckpointNow", sequence=1)
    for _ in range(3):
        relay.tell()
        clock.now += 10
    asked = run.command()
    assert asked is not None
    assert (asked.command, asked.sequence) == (Command.CHECKPOINT_NOW, 1)
    server.spec = a_spec(command="CheckpointAndStop", sequence=2)
    relay.tell()
    asked = run.command()
    assert asked is not None
    assert (asked.command, asked.sequence) == (Command.CHECKPOINT_AND_STOP, 2)


def test_an_attempt_that_was_deleted_saves_and_stops(
    server: OneObject, relay: Relay, run: RunEnd
) -> None:
    server.answers = [404]
    relay.tell()
    asked = run.command()
    assert asked is not None
    assert asked.command is Command.CHECKPOINT_AND_STOP


def test_what_is_left_is_told_at_the_end(server: OneObject, tmp_path: Path, run: RunEnd) -> None:
    relay = Relay(server.attempt, tmp_path / "run")
    relay.start()
    run.progress(at(1))
    relay.close()
    assert server.status["progress"]["step"] == 1
