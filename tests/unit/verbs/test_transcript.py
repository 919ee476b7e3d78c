"""What a pod says is kept beside its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunefleet.api.errors import StorageError
from tunefleet.api.words import Phase
from tunefleet.channel.schema import Event, Progress
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store, open_store
from tunefleet.verbs.transcript import Transcript, kept


class Heard:
    """Whoever else is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, progress: Progress) -> None:
        self.said.append(f"step {progress.step}")

    def event(self, event: Event) -> None:
        self.said.append(event.message)

    def say(self, text: str) -> None:
        self.said.append(text)


class Closed(Store):
    """A store that takes nothing."""

    def write(self, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
        raise StorageError("the store is away")

    def create(self, key: str, body: bytes) -> bool:
        raise StorageError("the store is away")


def at(step: int) -> Progress:
    return Progress(phase=Phase.RUNNING, step=step, total_steps=9, epoch=0.5, epochs=1, workers=1)


def values(run: RunStore, attempt: int) -> list[tuple[str, str, Any]]:
    found = [(who, json.loads(line)) for who, line in kept(run, attempt)]
    return [(who, line["type"], line["value"]) for who, line in found]


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return RunStore.create(open_store(str(tmp_path), tmp_path), "default", "reviews")


def test_all_that_is_said_is_passed_on_and_kept_from_the_first_word_on(run: RunStore) -> None:
    inner = Heard()
    with Transcript(inner) as transcript:
        transcript.say("before anybody knows where")
        transcript.keep_in(run, 2, "driver")
        transcript.event(Event(kind="checkpoint", message="committed", step=3))
        transcript.result('{"phase":"Succeeded"}')
    assert inner.said == ["before anybody knows where", "committed"]
    who, kinds, found = zip(*values(run, 2), strict=True)
    assert set(who) == {"driver"}
    assert kinds == ("writer", "note", "event", "result")
    assert found[1] == {"message": "before anybody knows where"}
    assert found[2]["message"] == "committed"
    assert found[3] == {"phase": "Succeeded"}


def test_progress_is_kept_once_a_minute(run: RunStore) -> None:
    moment = 0.0
    inner = Heard()
    with Transcript(inner, now=lambda: moment) as transcript:
        transcript.keep_in(run, 1, "driver")
        for step in range(9):
            moment = 20.0 * step
            transcript.progress(at(step))
    assert len(inner.said) == 9
    steps = [value["step"] for _, kind, value in values(run, 1) if kind == "progress"]
    assert steps == [0, 3, 6]


def test_a_second_execution_of_an_attempt_leaves_the_words_of_the_first(run: RunStore) -> None:
    for words in ("first", "second"):
        with Transcript(Heard()) as transcript:
            transcript.keep_in(run, 1, "driver")
            transcript.say(words)
    said = [value["message"] for _, kind, value in values(run, 1) if kind == "note"]
    assert said == ["first", "second"]


def test_a_store_that_takes_nothing_is_told_of_once_and_stops_nobody(run: RunStore) -> None:
    inner = Heard()
    away = RunStore(Closed(run.store.uri), run.namespace, run.job, run.run)
    with Transcript(inner, every=0.01) as transcript:
        transcript.keep_in(away, 1, "driver")
        transcript.say("on we go")
    assert sorted(inner.said) == [
        "on we go",
        "what is said here is not kept for now: the store is away",
    ]


def test_nothing_is_kept_of_what_belongs_to_no_run(run: RunStore) -> None:
    with Transcript(Heard()) as transcript:
        transcript.say("refused before there was a run")
    assert values(run, 1) == []
