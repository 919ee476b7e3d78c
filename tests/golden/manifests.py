"""The objects of one small job, as files; ``python -m tests.golden.manifests`` writes them.

Who changes what a cluster is given changes a file here in the same commit, where everybody sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from tests.plans import some_facts
from tests.unit.controller.world import a_cluster_job
from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.digest import job_values
from tunefleet.controller.jobs.language import judge
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.planner import make_plan
from tunefleet.render.attempt import attempt
from tunefleet.render.prepare_job import prepare_job
from tunefleet.render.ray_job import ray_job
from tunefleet.render.settings import Runtime

FOLDER = Path(__file__).with_name("manifests")
RUNTIME = Runtime(image="registry.example.com/tunefleet-runtime:0.1.0")
UID = "0a1b2c3d-0000-4000-8000-000000000000"


def rendered() -> Mapping[str, Mapping[str, object]]:
    """Every object by its file's name."""
    job, problems = judge(
        a_cluster_job(
            credentials={"serviceAccountName": "trainer", "secretRefs": ["bucket"]},
            training={"maxSteps": 100},
        )
    )
    assert job is not None, problems
    plan = make_plan(job, some_facts(), machine_of(job))
    ranged, problems = judge(a_cluster_job(workers={"min": 1, "max": 4}))
    assert ranged is not None, problems
    asked = make_plan(ranged, some_facts(), machine_of(ranged))
    fewer = make_plan(ranged, some_facts(), machine_of(ranged, workers=3), frozen=asked, placed=3)
    spec = AttemptSpec(
        job=job.metadata.name, owner=UID, number=0, stage=Stage.PREPARE, manifest=job_values(job)
    )
    return {
        "attempt": attempt(job, UID, spec),
        "prepare": prepare_job(job, "reviews-0a1b2-0", UID, RUNTIME),
        "rayjob": ray_job(job, "reviews-0a1b2-1", UID, plan, RUNTIME),
        "rayjob-fewer": ray_job(ranged, "reviews-0a1b2-2", UID, fewer, RUNTIME),
    }


def text_of(body: Mapping[str, object]) -> str:
    """A manifest as it stands in its file."""
    yaml = YAML()
    yaml.representer.ignore_aliases = lambda data: True
    out = StringIO()
    yaml.dump(body, out)
    return out.getvalue()


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, body in rendered().items():
        (FOLDER / f"{name}.yaml").write_text(text_of(body), encoding="utf-8")


if __name__ == "__main__":
    main()
