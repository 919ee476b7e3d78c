"""Progress out and commands in through a folder of one machine.

Decides the files: ``progress.json`` (replaced), ``events.jsonl`` and ``steps.jsonl``
(appended), ``command.json`` and ``spent.json`` (replaced). Works between any processes of one
machine, needs no server and no port, and survives either side. Imports ``api``, ``cost`` and
this package.
"""

from __future__ import annotations

import os
from pathlib import Path

from tunefleet.api.base import Document
from tunefleet.api.words import Command
from tunefleet.channel.schema import CommandRecord, Event, Progress, StepRecord
from tunefleet.cost.ledger import Spent


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(text)
    os.replace(draft, path)


class RunEnd:
    """The running side: says what happens and reads what is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def progress(self, progress: Progress) -> None:
        """Replace the newest state."""
        _replace(self._folder / "progress.json", progress.to_json())

    def event(self, event: Event) -> None:
        """Add an event."""
        self._append("events.jsonl", event)

    def step(self, record: StepRecord) -> None:
        """Add a step."""
        self._append("steps.jsonl", record)

    def spent(self, record: Spent) -> None:
        """Replace what has been spent: what is known of a group that is killed."""
        _replace(self._folder / "spent.json", record.to_json())

    def command(self) -> CommandRecord | None:
        """What is asked, if anything."""
        try:
            text = (self._folder / "command.json").read_text()
        except FileNotFoundError:
            return None
        return CommandRecord.from_json(text)

    def _append(self, name: str, document: Document) -> None:
        with (self._folder / name).open("a") as file:
            file.write(document.to_json() + "\n")


class WatchEnd:
    """The watching side: reads what is said and asks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = {"events.jsonl": 0}
        self._asked = 0
        folder.mkdir(parents=True, exist_ok=True)

    def progress(self) -> Progress | None:
        """The newest state, if there is one yet."""
        try:
            return Progress.from_json((self._folder / "progress.json").read_text())
        except FileNotFoundError:
            return None

    def spent(self) -> Spent | None:
        """What the newest group had spent when it was last heard of."""
        try:
            return Spent.from_json((self._folder / "spent.json").read_text())
        except FileNotFoundError:
            return None

    def events(self) -> list[Event]:
        """Events since the last call."""
        return [Event.from_json(line) for line in self._new_lines("events.jsonl")]

    def ask(self, command: Command, reason: str) -> None:
        """Ask something of the run."""
        self._asked += 1
        record = CommandRecord(command=command, sequence=self._asked, reason=reason)
        _replace(self._folder / "command.json", record.to_json())

    def _new_lines(self, name: str) -> list[str]:
        path = self._folder / name
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read[name])
            data = file.read()
        # A line without its end is still being written.
        whole = data[: data.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return whole.decode().splitlines()
