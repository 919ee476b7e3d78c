"""Every job file of `jobs/` is trained: its data, options and columns, on a tiny model.

The whole way but for Ray: load, prepare, plan, train, bundle, and an answer from the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tiny_models import tiny_bert, tiny_llama
from tunefleet.api.words import Phase
from tunefleet.evaluate.predictor import Predictor
from tunefleet.evaluate.result import Outcome
from tunefleet.plan.planner import make_plan
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.machine import machine_facts
from tunefleet.train.prepare import prepare
from tunefleet.train.process import run_process
from tunefleet.verbs.jobfile import load

ROOT = Path(__file__).parents[2]
CHAT: Mapping[str, object] = {"messages": [{"role": "user", "content": "Where is my lamp?"}]}
CASES: dict[str, tuple[Mapping[str, object], str]] = {
    "text-classification": ({"text": "The lamp has not arrived"}, "label"),
    "multi-label": ({"text": "Noodles with plenty of chilli"}, "labels"),
    "sentence-pair": ({"text": "The zoo is free.", "textPair": "The zoo costs nothing."}, "label"),
    "regression": ({"text": "The room was good."}, "value"),
    "lora": ({"text": "The lamp has not arrived"}, "label"),
    "causal-lm-instruction": ({"prompt": "Add 2 and 3."}, "text"),
    "causal-lm-chat": (CHAT, "text"),
    "causal-lm-text": ({"text": "The baker"}, "text"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model for each task."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "text-classification": tiny_bert(folder / "bert"),
        "causal-lm": tiny_llama(folder / "llama"),
    }


def test_every_job_file_stands_in_the_table() -> None:
    assert {path.stem for path in ROOT.glob("jobs/*.yaml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_job_file_is_trained_to_a_bundle_that_answers(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    path = ROOT / "jobs" / f"{name}.yaml"
    written = load(path).job.spec
    method = written.model.method.model_dump_json(by_alias=True, exclude_none=True)
    file = load(
        path,
        [
            f"model={{uri: {models[written.task]}, method: {method}}}",
            f"checkpoints.uri={tmp_path / 'runs'}",
            "training.epochs=1",
        ],
    )
    prepared = prepare(file.job, file.base, cache=tmp_path / "cache")
    plan = make_plan(file.job, prepared.facts, machine_facts("cpu"))
    run = RunStore.create(open_store(str(tmp_path / "runs"), tmp_path), "default", plan.job)
    data = prepared.facts.data
    run_process(
        WorkerConfig(
            address=RunAddress(
                uri=run.store.uri,
                namespace=run.namespace,
                job=run.job,
                run=run.run,
                attempt=run.claim_attempt(Writer.here()).attempt,
            ),
            job=file.job.model_dump(by_alias=True, mode="json", exclude_none=True),
            plan=plan,
            model_path=prepared.facts.model.path,
            labels=data.labels,
            stores={"train": data.train.store, "validation": data.validation.store},
            scratch=str(tmp_path / "scratch"),
        ),
        local_rank=0,
    )
    ended = run.exit_record(1)
    assert ended is not None
    assert ended.phase is Phase.SUCCEEDED, ended.message
    outcome = Outcome.model_validate(run.get_json("report/outcome.json"))
    assert outcome.bundle is not None
    item, answer = CASES[name]
    answers = Predictor.open(outcome.bundle.path, device="cpu").predict([item])
    assert answer in answers[0]
