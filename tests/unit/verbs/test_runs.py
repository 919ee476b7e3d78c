from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.unit.evaluate.sample import sample
from tunefleet.api.errors import SpecError
from tunefleet.api.rates import Segment
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.cost.ledger import Spent
from tunefleet.evaluate.report import ReportData, write_report
from tunefleet.storage.run import ExitRecord, RunStore, Writer
from tunefleet.storage.store import Store, open_store
from tunefleet.verbs.run_records import RunComparison, RunDetails, RunList
from tunefleet.verbs.runs import compare_runs, list_runs, show_run
from tunefleet.verbs.spending import run_cost

GONE = Writer(host="elsewhere", boot="b", pid=1, started=1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store("runs", tmp_path)


def leave(
    store: Store,
    tmp_path: Path,
    data: ReportData,
    *,
    job: str = "reviews",
    scores: bool = True,
    **spec: object,
) -> RunStore:
    """A finished run as ``tunefleet run`` leaves it."""
    run = RunStore.create(store, "default", job)
    claim = run.claim_attempt(GONE)
    values = json.loads(data.job.model_dump_json(by_alias=True, exclude_none=True))
    values["spec"]["training"] |= spec
    run.put_json("job.json", values)
    run.put_json("plan.json", data.plan)
    run.put_json("facts.json", data.facts)
    run.put_json("report/result.json", data.result)
    write_report(data, tmp_path / "report")
    run.store.put(run.key("report/report.json"), tmp_path / "report" / "report.json")
    if scores:
        for split, part in data.scores.items():
            file = io.BytesIO()
            np.savez(file, allow_pickle=False, **part)
            run.store.put(run.key("report", f"scores-{split}.npz"), file.getvalue())
    run.put_spent(spent(claim.attempt, {Cause.TRAIN: 90}, 44_160 * 3600 // 90))
    run.write_exit(
        ExitRecord(
            attempt=claim.attempt,
            phase=Phase.SUCCEEDED,
            message="",
            step=data.result.steps,
            seconds={Cause.TRAIN: 90.0},
            cost_microdollars=44_160,
        )
    )
    return run


def spent(attempt: int, seconds: Mapping[Cause, int], hourly: int | None) -> Spent:
    """What one worker spent in whole seconds, at one price."""
    total = sum(seconds.values()) * 1_000_000_000
    return Spent(
        attempt=attempt,
        start=1,
        workers=1,
        begun_ns=0,
        until_ns=total,
        causes={cause: value * 1_000_000_000 for cause, value in seconds.items()},
        segments=[Segment(from_ns=0, to_ns=total, microdollars_per_hour=hourly)],
    )


def text_of(result: RunList | RunDetails | RunComparison) -> str:
    console = Console(file=io.StringIO(), width=180)
    result.render(console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_runs_are_listed_by_job_with_the_newest_first(store: Store, tmp_path: Path) -> None:
    data = sample()
    for _ in range(2):
        leave(store, tmp_path, data)
    leave(store, tmp_path, data, job="others")
    found = list_runs("runs", tmp_path)
    assert [run.name for run in found.runs] == [
        "others/run-0001",
        "reviews/run-0002",
        "reviews/run-0001",
    ]
    first = found.runs[0]
    assert first.metric is not None
    assert (first.metric.name, first.split) == ("f1_macro", "test")
    assert first.metric.after == data.result.splits["test"].after["f1_macro"]
    assert (first.state, first.cost_microdollars) == ("Succeeded", 44_160)
    assert [run.job for run in list_runs("runs", tmp_path, job="others").runs] == ["others"]


def test_a_store_without_runs_lists_none_and_says_where_it_looked(tmp_path: Path) -> None:
    found = list_runs("runs", tmp_path)
    assert found.runs == []
    assert str(tmp_path) in text_of(found)
    assert not (tmp_path / "runs").exists()


def test_a_run_is_running_while_its_writer_lives_and_interrupted_after(store: Store) -> None:
    living, killed = (RunStore.create(store, "default", "reviews") for _ in range(2))
    living.claim_attempt(Writer.here())
    killed.claim_attempt(GONE)
    states = {run.run: run.state for run in list_runs(store.uri).runs}
    assert states == {"run-0001": "Running", "run-0002": "Interrupted"}


def test_a_failed_run_shows_every_attempt_and_why(store: Store) -> None:
    run = RunStore.create(store, "team", "reviews")
    for attempt in (1, 2):
        run.claim_attempt(GONE)
        run.put_spent(spent(attempt, {Cause.TRAIN: 30, Cause.STARTUP: 5}, None))
        run.write_exit(
            ExitRecord(
                attempt=attempt,
                phase=Phase.FAILED,
                failure=FailureClass.OUT_OF_MEMORY,
                message="a worker ran out of memory",
                step=10 * attempt,
                seconds={Cause.TRAIN: 30.0, Cause.STARTUP: 5.0},
            )
        )
    found = show_run("team/reviews", store.uri)
    assert [a.step for a in found.attempts] == [10, 20]
    assert found.summary.state == "Failed"
    assert found.summary.worker_seconds == 70.0
    assert found.summary.cost_microdollars is None
    assert "a worker ran out of memory" in text_of(found)
    assert "unpriced" in text_of(found)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("reviews", "run-0002"),
        ("reviews/1", "run-0001"),
        ("reviews/run-0001", "run-0001"),
        ("default/reviews", "run-0002"),
        ("default/reviews/2", "run-0002"),
    ],
)
def test_a_run_is_found_by_its_name(store: Store, name: str, run: str) -> None:
    for _ in range(2):
        RunStore.create(store, "default", "reviews")
    assert show_run(name, store.uri).summary.run == run


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("revews", "reviews", id="the nearest job is offered"),
        pytest.param("reviews/7", "run-0001", id="the runs that exist are named"),
        pytest.param("", "reviews", id="an empty name is no run"),
    ],
)
def test_an_unknown_run_is_an_error_that_helps(store: Store, name: str, said: str) -> None:
    RunStore.create(store, "default", "reviews")
    with pytest.raises(SpecError, match=said):
        show_run(name, store.uri)


def test_a_comparison_shows_what_differs_and_how_sure_that_is(store: Store, tmp_path: Path) -> None:
    data = sample()
    leave(store, tmp_path, data)
    leave(store, tmp_path, data, epochs=5)
    found = compare_runs(["reviews/1", "reviews/2"], store.uri).comparison
    assert [(d.name, d.values) for d in found.settings] == [("spec.training.epochs", ["–", "5"])]
    primary = next(m for m in found.metrics if (m.split, m.name) == ("test", "f1_macro"))
    assert primary.values[0] is not None
    assert primary.values[0].low is not None
    gap = primary.gaps[1]
    assert primary.gaps[0] is None
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
    shown = text_of(compare_runs(["reviews/1", "reviews/2"], store.uri))
    assert "spec.training.epochs" in shown
    assert "$0.0442" in shown


def test_runs_on_other_rows_are_compared_without_an_interval(store: Store, tmp_path: Path) -> None:
    leave(store, tmp_path, sample())
    leave(store, tmp_path, sample(held_out=300))
    found = compare_runs(["reviews/1", "reviews/2"], store.uri).comparison
    primary = next(m for m in found.metrics if (m.split, m.name) == ("test", "f1_macro"))
    assert primary.gaps[1] is not None
    assert primary.gaps[1].low is None


def test_runs_without_stored_scores_are_compared_by_value_alone(
    store: Store, tmp_path: Path
) -> None:
    for _ in range(2):
        leave(store, tmp_path, sample(), scores=False)
    found = compare_runs(["reviews/1", "reviews/2"], store.uri).comparison
    assert found.settings == []
    assert all(m.gaps[1] is not None and m.gaps[1].low is None for m in found.metrics)


def test_one_run_alone_is_no_comparison(store: Store) -> None:
    with pytest.raises(SpecError, match="second"):
        compare_runs(["reviews"], store.uri)


def test_results_draw_themselves_for_notebooks_and_read_back_from_json(
    store: Store, tmp_path: Path
) -> None:
    for _ in range(2):
        leave(store, tmp_path, sample())
    results = (
        list_runs(store.uri),
        show_run("reviews", store.uri),
        compare_runs(["reviews/1", "reviews/2"], store.uri),
    )
    for result in results:
        assert "<table>" in result._repr_html_()
        assert type(result).from_json(result.to_json()) == result


def test_listing_loads_neither_torch_nor_ray_nor_scikit_learn(store: Store, tmp_path: Path) -> None:
    leave(store, tmp_path, sample())
    code = (
        "import sys; from tunefleet.verbs.runs import list_runs, show_run;"
        f"list_runs({store.uri!r}); show_run('reviews', {store.uri!r});"
        "print(sorted({'torch', 'ray', 'sklearn', 'transformers', 'jinja2'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == "[]"


def test_the_cost_of_a_run_is_told_by_cause_and_by_attempt(store: Store) -> None:
    run = RunStore.create(store, "default", "reviews")
    for attempt, hourly in ((1, None), (2, 3_600_000_000)):
        run.claim_attempt(GONE)
        run.put_spent(spent(attempt, {Cause.TRAIN: 30, Cause.RECOVERY: 10}, hourly))
    found = run_cost("reviews", store.uri)
    assert found.run.seconds == {Cause.TRAIN: 60.0, Cause.RECOVERY: 20.0}
    assert found.run.money == {Cause.TRAIN: 30_000_000, Cause.RECOVERY: 10_000_000}
    assert [each.cost_microdollars for each in found.attempts] == [None, 40_000_000]
    assert found.run.cost_microdollars == 40_000_000
    assert found.run.unpriced_seconds == 40.0
    console = Console(file=io.StringIO(), width=180)
    found.render(console)
    output = console.file
    assert isinstance(output, io.StringIO)
    text = output.getvalue()
    assert "$40.00 + 40 s unpriced" in text
    assert "$30.000000" in text
    assert show_run("reviews", store.uri).summary.cost_microdollars == 40_000_000
