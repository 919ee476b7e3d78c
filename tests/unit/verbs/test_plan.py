"""``tunefleet plan`` on real files: what it shows, and that it answers without torch."""

from __future__ import annotations

import html
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.plans import a_job, a_machine, some_facts
from tests.tiny_models import tiny_bert
from tunefleet.api.errors import SpecError
from tunefleet.api.words import Cause, Phase
from tunefleet.evaluate.result import RunResult
from tunefleet.plan.planner import make_plan
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store
from tunefleet.verbs.jobfile import load
from tunefleet.verbs.plan import PlanResult, plan

JOB = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: reviews}
spec:
  task: text-classification
  model: {uri: model}
  data:
    train: {uri: reviews.csv}
    columns: {text: review, label: stars}
  training: {epochs: 2, batchSize: 8}
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "cache"))
    tiny_bert(tmp_path / "model")
    rows = [
        f'"a {"wonderful" if i % 2 else "dull"} film number {i}",{"good" if i % 2 else "bad"}'
        for i in range(40)
    ]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def shown(result: PlanResult) -> str:
    out = io.StringIO()
    result.render(Console(file=out, width=200))
    return out.getvalue()


AGAIN = """
import sys, time
from tunefleet.verbs.plan import plan
began = time.process_time()
made = plan(sys.argv[1]).to_json()
assert time.process_time() - began < 2, time.process_time() - began
heavy = {"torch", "transformers", "ray", "datasets", "sklearn"} & set(sys.modules)
assert not heavy, heavy
print(made)
"""


def test_plans_real_files_and_answers_again_without_torch(job: Path) -> None:
    first = plan(job, workers=2, price="0.50")
    assert first.plan.workers == 2
    assert first.plan.train_units == 36
    assert first.plan.total_steps == 2 * 5
    assert first.plan.cost_dollars is not None
    assert first.plan.parameters == first.facts.model.parameters > 0
    plain = plan(job)
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(job)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads(plain.to_json())


def test_a_speed_that_a_run_of_this_job_reached_is_used(job: Path) -> None:
    file = load(job)
    before = plan(file)
    run = RunStore.create(open_store("runs", job.parent), "default", "reviews")
    run.put_json("plan.json", before.plan)
    result = RunResult(
        phase=Phase.SUCCEEDED,
        job="reviews",
        namespace="default",
        run=run.run,
        attempt=1,
        run_uri=run.uri,
        task="text-classification",
        metric="f1_macro",
        steps=before.plan.total_steps,
        total_steps=before.plan.total_steps,
        resumed_from=0,
        workers=1,
        seconds={Cause.TRAIN: 500.0, Cause.STARTUP: 9.0},
        wall_seconds=509.0,
    )
    run.put_json("report/result.json", result)
    assert "stated" not in before.plan.seconds.basis
    after = plan(file)
    assert "measured" in after.plan.seconds.basis
    assert after.plan.seconds.value == pytest.approx(500, rel=0.2)
    # Another model's speed says nothing about this one.
    run.put_json("plan.json", before.plan.model_copy(update={"model_digest": "sha256:other"}))
    assert plan(file).plan.seconds == before.plan.seconds


def test_shows_what_will_be_run_how_big_how_dear_and_why() -> None:
    facts = some_facts()
    job = a_job(workers__count=2, evaluation__earlyStopping={"metric": "accuracy", "patience": 4})
    made = make_plan(job, facts, a_machine(), price_microdollars_per_hour=500_000)
    text = shown(PlanResult(made, facts))
    for part in (
        "22,713,986 parameters",
        "1,000 training units",
        "96: 3 epochs of 32",
        "32 units = 2 micro-batches of 16; 2 workers, up to 1 each",
        "stops after 4 without improvement",
        "every 32 steps or",
        "√(2 × MTTF × stall)",
        "Korthikanti",
        "GFLOP/s per core",
        "$0.5 per worker and hour × 2 workers",
        "neither epochs nor maxSteps is given",
    ):
        assert part in text


def test_without_a_price_says_unpriced() -> None:
    facts = some_facts()
    text = shown(PlanResult(make_plan(a_job(), facts, a_machine()), facts))
    assert "unpriced" in text
    assert "--price-per-hour" in text
    assert "$" not in text


def test_a_notebook_sees_the_same_with_nothing_unescaped() -> None:
    facts = some_facts()
    made = make_plan(a_job(training__batchSize=2000), facts, a_machine(memory=64 << 30))
    odd = facts.model_copy(update={"model": facts.model.model_copy(update={"source": "<b>&"})})
    page = PlanResult(made, odd)._repr_html_()
    assert html.escape("<b>&") in page
    assert "<b>&" not in page
    assert "memory of a worker" in page
    assert "batchSize 2000 is larger than the 1000 training units" in page


def test_a_price_that_is_none_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SpecError, match="'cheap' is no price"):
        plan("absent.yaml", price="cheap")
