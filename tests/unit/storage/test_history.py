"""Whatever happens in whatever order, the head is the newest whole commit of the history.

Hypothesis drives commits, kills, claims, zombies, damage, retention and collection against a
model that keeps the history as plain lists and knows nothing of names or parents.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.checkpoints import head
from tests.unit.storage.harness import (
    DAMAGES,
    FILES,
    Killed,
    begin,
    commit,
    damage,
    mortal_memory,
    new_run,
)
from tunefleet.api.words import Phase
from tunefleet.storage.chain import chain
from tunefleet.storage.checkpoints import CheckpointWriter, FencedError, Manifest, collect, retain
from tunefleet.storage.manifest import Manifest as ManifestDocument
from tunefleet.storage.manifest import verify
from tunefleet.storage.records import ExitRecord
from tunefleet.storage.store import Store
from tunefleet.storage.writer import Writer


@dataclass
class Start:
    """A start as the model sees it: its history, oldest first, and whether it can commit."""

    writer: CheckpointWriter
    attempt: int
    line: list[str]
    dead: bool = False
    fenced: bool = False  # by a marker alone; by later starts it is fenced anyway


@dataclass
class Late:
    """A manifest that its writer holds in its hand, its data written already."""

    start: Start
    request: tuple[str, bytes]
    manifest: Manifest
    swept: bool = False


@dataclass
class Model:
    """What ought to be: checkpoints by name, whole or not; starts in order."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    whole: dict[str, bool] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)  # what a look at names and sizes tells
    starts: list[Start] = field(default_factory=list)
    claimed: int = 0
    ended: set[int] = field(default_factory=set)

    def line(self) -> list[str]:
        return self.starts[-1].line if self.starts else []

    def head(self) -> str | None:
        return next((name for name in reversed(self.line()) if self.whole[name]), None)

    def fenced(self) -> list[Start]:
        return [
            start
            for start in self.starts
            if not start.dead and (start.fenced or not self.may_commit(start))
        ]

    def may_commit(self, start: Start) -> bool:
        return start is self.starts[-1] and start.attempt == self.claimed


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin_run(self) -> None:
        self.store = mortal_memory()
        self.run = new_run(self.store)
        self.model = Model()
        self.late: list[Late] = []
        self.step = 0

    # -- claims and starts ---------------------------------------------------------------

    @rule()
    def claim_an_attempt(self) -> None:
        self.run.claim_attempt(Writer.here())
        self.model.claimed += 1

    @rule(new_attempt=st.booleans())
    def start(self, new_attempt: bool) -> None:
        model = self.model
        new_attempt = new_attempt or not model.claimed
        model.claimed += new_attempt
        expected = model.head()
        record = begin(self.run, attempt=new_attempt)
        assert record.resumed_from == (expected and model.manifests[expected].key)
        line = model.line()
        kept = line[: line.index(expected) + 1] if expected else []
        writer = CheckpointWriter(self.run, record)
        model.starts.append(Start(writer, model.claimed, list(kept)))

    @precondition(lambda self: self.model.claimed)
    @rule(writes=st.integers(0, 1))
    def start_and_be_killed(self, writes: int) -> None:
        # Its marker may stand (it fences), its record does not: no start of the history.
        self.store.fuse = writes
        with contextlib.suppress(Killed):
            self.run.claim_start(self.model.claimed, 2)
        self.store.fuse = None
        for start in self.model.starts:
            start.fenced = start.fenced or bool(start.attempt == self.model.claimed and writes)

    # -- commits -------------------------------------------------------------------------

    def live(self) -> Start:
        """The newest start, if it can still commit, else a new one."""
        starts = self.model.starts
        newest = starts[-1] if starts else None
        if newest is None or newest.dead or newest.fenced or not self.model.may_commit(newest):
            self.start(new_attempt=False)
        return self.model.starts[-1]

    @rule(metrics=st.lists(st.none() | st.sampled_from([0.1, 0.5, 0.9]), min_size=1, max_size=3))
    def commit(self, metrics: list[float | None]) -> None:
        start = self.live()
        for metric in metrics:
            self.step += 10
            self._committed(start, commit(start.writer, self.step, metric))

    @precondition(lambda self: self.model.fenced())
    @rule(data=st.data())
    def commit_when_taken_over(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(self.model.fenced()), label="start")
        self.step += 10
        before = self.store.list("")
        try:
            commit(start.writer, self.step)
        except FencedError:
            assert self.store.list("") == before
            return
        raise AssertionError("a fenced writer has committed")

    @rule(writes=st.integers(0, len(FILES)))
    def commit_and_be_killed(self, writes: int) -> None:
        start = self.live()
        self.step += 10
        self.store.fuse = writes
        try:
            commit(start.writer, self.step)
            raise AssertionError("the fuse was too long")
        except Killed:
            pass
        self.store.fuse = None

    @precondition(lambda self: not self.late)
    @rule()
    def stand_still_before_the_manifest(self) -> None:
        start = self.live()
        self.step += 10
        self.store.hold_manifests = True
        with contextlib.suppress(Killed):
            commit(start.writer, self.step)
        self.store.hold_manifests = False
        assert self.store.held is not None
        manifest = ManifestDocument.from_json(self.store.held[1])
        self.late.append(Late(start, self.store.held, manifest))
        start.dead = True

    @precondition(lambda self: self.late)
    @rule()
    def the_late_manifest_lands(self) -> None:
        late = self.late.pop()
        Store(self.store.uri).create(*late.request)
        name = late.manifest.name
        if late.start is self.model.starts[-1]:
            self._committed(late.start, late.manifest)
            self.model.whole[name] = not late.swept
            if late.swept:
                self.model.unusable.add(name)

    # -- damage and deletion -------------------------------------------------------------

    @precondition(lambda self: self.model.head())
    @rule(data=st.data(), kind=st.sampled_from(DAMAGES))
    def damage(self, data: st.DataObject, kind: str) -> None:
        whole = [name for name in self.model.line() if self.model.whole[name]]
        name = data.draw(st.sampled_from(whole[-2:]), label="checkpoint")
        damage(self.run, self.model.manifests[name], kind)
        self.model.whole[name] = False
        if "bit" not in kind:
            self.model.unusable.add(name)

    @precondition(lambda self: self.model.starts)
    @rule(
        last=st.integers(1, 3),
        best=st.integers(0, 2),
        higher=st.booleans(),
        deletes=st.none() | st.integers(0, 6),
    )
    def retain(self, last: int, best: int, higher: bool, deletes: int | None) -> None:
        model, before = self.model, model_history(self.model)
        kept = set(before[:last])
        rated = [name for name in reversed(before) if model.manifests[name].metric is not None]
        rated.sort(key=lambda name: (model.manifests[name].metric or 0) * (-1 if higher else 1))
        kept |= set(rated[:best])
        self.store.fuse = deletes
        with contextlib.suppress(Killed):
            retain(self.run, keep_last=last, keep_best=best, higher_is_better=higher)
        self.store.fuse = None
        for name in before:
            manifest = model.manifests[name]
            if not self.store.exists(self.run.key(manifest.key)):
                assert name not in kept
                model.whole[name] = False
                model.unusable.add(name)
            elif model.whole[name]:
                assert verify(self.run, manifest) == []
                assert deletes is not None or name in kept

    @precondition(lambda self: self.model.claimed)
    @rule()
    def an_attempt_ends(self) -> None:
        attempt = self.model.claimed
        self.run.write_exit(
            ExitRecord(attempt=attempt, phase=Phase.STOPPED, message="", step=0, seconds={})
        )
        self.model.ended.add(attempt)

    @rule(deletes=st.none() | st.integers(0, 6))
    def collect(self, deletes: int | None) -> None:
        whole = {name for name in self.model.line() if self.model.whole[name]}
        self.store.fuse = deletes
        with contextlib.suppress(Killed):
            collect(self.run)
        self.store.fuse = None
        for name in whole:
            assert verify(self.run, self.model.manifests[name]) == []
        for late in self.late:
            over = late.start is not self.model.starts[-1] or late.start.attempt in self.model.ended
            gone = bool(verify(self.run, late.manifest))
            assert over or not gone  # a live writer's files are never touched
            late.swept = late.swept or gone

    # -- what always holds ---------------------------------------------------------------

    @invariant()
    def the_head_is_the_newest_whole_commit_of_the_history(self) -> None:
        found = head(self.run)
        assert (found and found.name) == self.model.head()

    @invariant()
    def the_chain_runs_from_the_head_to_the_first(self) -> None:
        names = [manifest.name for manifest in chain(self.run)]
        assert names[:1] == ([self.model.head()] if self.model.head() else [])
        order = {name: place for place, name in enumerate(reversed(self.model.line()))}
        places = [order[name] for name in names]
        assert places == sorted(places)
        assert {name for name in self.model.line() if self.model.whole[name]} <= set(names)

    def _committed(self, start: Start, manifest: Manifest) -> None:
        start.line.append(manifest.name)
        self.model.manifests[manifest.name] = manifest
        self.model.whole[manifest.name] = True


def model_history(model: Model) -> list[str]:
    """From the head downwards: what retention weighs (it does not read older ones back)."""
    line = model.line()
    top = model.head()
    found = list(reversed(line[: line.index(top) + 1])) if top else []
    return [name for name in found if name not in model.unusable]


def test_the_head_is_always_the_newest_whole_commit_of_the_history() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=70,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
