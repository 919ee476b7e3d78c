"""Jobs from ``kubectl apply`` to a bundle that answers, on a node, by real pods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.node.platform import BUCKET, Platform, platform
from tests.testbed.clusters import Cluster

# All of it waits for pods that start Ray, two at a time on as many cores.
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def here(
    cluster: Cluster, say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    if cluster.bed is None:
        pytest.skip("needs the bed's S3 server: unset KUBECONFIG, or make cluster-up")
    with platform(cluster, say, tmp_path_factory.mktemp("platform")) as found:
        yield found


def test_a_job_is_suspended_loses_a_pod_goes_on_where_it_was_and_leaves_a_bundle(
    here: Platform, tmp_path: Path
) -> None:
    here.apply(
        "reviews",
        training={"maxSteps": 1200, "batchSize": 16, "seed": 17},
        evaluation={"every": 600},
    )
    here.wait(
        "reviews", lambda s: (s.get("progress") or {}).get("checkpointStep", 0) >= 10, seconds=400
    )
    here.patch("reviews", suspend=True)
    suspended = here.wait("reviews", lambda s: s["phase"] == "Suspended", seconds=120)
    saved = suspended["attempts"][-1]["step"]
    assert 0 < saved < 1200
    here.patch("reviews", suspend=False)
    here.wait(
        "reviews",
        lambda s: s["phase"] == "Running" and s["progress"]["checkpointStep"] > saved,
        seconds=300,
    )
    worker = next(pod for pod in here.pods() if "workers-worker" in pod)
    here.kubectl("delete", worker, "--wait=false")
    done = here.wait("reviews", lambda s: s["phase"] == "Succeeded", seconds=500)

    conditions = {c["type"]: c["status"] for c in done["conditions"]}
    assert conditions["Succeeded"] == "True"
    assert conditions["Stalled"] == conditions["Reconciling"] == "False"
    here.kubectl("wait", "--for=condition=Succeeded", "ftj/reviews", "--timeout=5s")
    _, first, second, third = done["attempts"]
    assert [a["number"] for a in (first, second, third)] == [1, 2, 3]
    assert second["resumedFrom"] >= saved > 0, "no step is made twice"
    assert second["failure"] == "preempted", "a pod that had to go saved before it went"
    assert third["resumedFrom"] >= second["step"] > saved
    assert done["progress"]["step"] == 1200

    asked = tunefleet(
        here, tmp_path, "predict", done["bundle"]["uri"], "--text", "a wonderful film"
    )
    assert json.loads(asked.split("  ")[0])["label"] == "good"

    here.kubectl("delete", "rayjob", first["name"], "--wait")
    here.kubectl("wait", "--for=delete", "pod", "-l", f"tunefleet.dev/attempt={first['name']}")
    place = ("--kubeconfig", str(here.cluster.kubeconfig), "-n", here.namespace)
    heard = tunefleet(here, tmp_path, "logs", "reviews", "--attempt", "1", *place)
    assert "[driver] " in heard
    assert "attempt 1: 1200 steps" in heard
    assert '"phase":"Stopped"' in heard, "the last word of a driver whose pods are gone"


def tunefleet(here: Platform, tmp_path: Path, *arguments: str) -> str:
    """What a command of a user says, who has the bucket's keys."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tunefleet")), *arguments],
        env={
            **os.environ,
            **here.s3.server.environment(),
            "TUNEFLEET_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_wrong_rows_are_refused_with_their_file_and_line_before_a_gpu_is_asked_for(
    here: Platform,
) -> None:
    import obstore

    rows = b"text,label\na fine film,good\na bad film,bad\na film without a verdict,\n" * 3
    obstore.put(here.s3.server.client(), "wrong/rows.csv", rows)
    here.apply(
        "wrong",
        data={
            "train": {"uri": f"s3://{BUCKET}/wrong/rows.csv"},
            "validation": {"fraction": 0.2},
            "columns": {"text": "text", "label": "label"},
        },
    )
    told = here.wait("wrong", lambda s: s["phase"] == "Failed", seconds=120)
    prepared = next(c for c in told["conditions"] if c["type"] == "Prepared")
    assert (prepared["status"], prepared["reason"]) == ("False", "InputRefused")
    assert "wrong/rows.csv:4" in prepared["message"]
    assert here.kubectl("get", "rayjobs", "--output=name").count("wrong") == 0
