"""Real processes, really killed and really stopped, on a real disk."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.checkpoints import head
from tests.unit.storage.harness import begin, commit, new_run
from tunefleet.storage.chain import chain, find_head
from tunefleet.storage.checkpoints import CheckpointWriter, collect, verify
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store, open_store

TRAINER = """
    import sys
    from pathlib import Path
    from tunefleet.storage.checkpoints import CheckpointWriter, FencedError, retain
    from tunefleet.storage.run import RunStore, Writer
    from tunefleet.storage.store import open_store

    run = RunStore(open_store(sys.argv[1], Path("/")), "default", "reviews", "run-0001")
    claim = run.claim_attempt(Writer.here())
    record = run.claim_start(claim.attempt, 1)
    print("resumed", record.resumed_step, flush=True)
    writer, step = CheckpointWriter(run, record), record.resumed_step
    while True:
        step += 1
        files = {f"part-{n}": bytes([step % 256]) * 300_000 for n in range(3)}
        try:
            writer.commit(step, files, metric=None, chain="", digests={})
        except FencedError:
            print("fenced", flush=True)
            sys.exit(75)
        print("committed", step, flush=True)
        retain(run, keep_last=1, keep_best=0, higher_is_better=True)
"""


def trainer(store: Store) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TRAINER), store.uri],
        stdout=subprocess.PIPE,
        text=True,
    )


def until(child: subprocess.Popen[str], word: str) -> int:
    """Read what a trainer says up to a word; the number after it."""
    assert child.stdout is not None
    for said in child.stdout:
        if said.startswith(word):
            return int(said.split()[1])
    raise AssertionError(f"the trainer ended without {word}")


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return new_run(open_store("runs", tmp_path))


def test_a_killed_trainer_loses_nothing_that_it_reported(run: RunStore) -> None:
    last = 0
    for delay in (0.0, 0.003, 0.007, 0.011):  # into different parts of the next commit
        child = trainer(run.store)
        assert until(child, "resumed") >= last
        until(child, "committed")
        time.sleep(delay)
        claim = run.newest_claim()
        assert claim is not None
        assert claim.writer.alive()
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        last = max([last, *(int(said.split()[1]) for said in child.stdout if "committed" in said)])
        child.wait()
        child.stdout.close()
        assert not claim.writer.alive()
        search = find_head(run)
        assert search.head is not None
        assert search.head.step >= last
        last = search.head.step
        assert search.passed_over == []
    made = commit(CheckpointWriter(run, begin(run)), last + 1)
    collect(run)
    names = [manifest.name for manifest in chain(run)]
    assert names[0] == made.name
    assert run.store.folders(run.key("checkpoints")) == sorted(names)
    folder = run.store.local_path(run.key("checkpoints"))
    assert folder is not None
    assert [path for path in folder.rglob("*") if "#" in path.name] == []
    assert [verify(run, manifest) for manifest in chain(run)] == [[]] * len(names)


def test_a_stopped_trainer_that_wakes_after_its_successor_began_cannot_commit(
    run: RunStore,
) -> None:
    zombie = trainer(run.store)
    until(zombie, "committed")
    zombie.send_signal(signal.SIGSTOP)
    try:
        record = begin(run)
        made = commit(CheckpointWriter(run, record), record.resumed_step + 1)
    finally:
        zombie.send_signal(signal.SIGCONT)
    out, _ = zombie.communicate(timeout=30)
    assert zombie.returncode == 75
    assert out.endswith("fenced\n")
    assert head(run) == made
    collect(run)
    assert chain(run)[0] == made
