"""From what the workers left behind to the result and the report of a run.

Decides nothing about the numbers: it reads the outcome, the exit records and the chain of
checkpoints from the run's folder, so that it can be done again after a kill.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunefleet.api.job import FineTuneJob
from tunefleet.api.version import VERSION
from tunefleet.api.words import Phase
from tunefleet.cost.ledger import account_of
from tunefleet.evaluate.result import CheckpointResult, History, Outcome, RunResult
from tunefleet.plan.document import Plan
from tunefleet.storage.checkpoints import chain
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.train.prepare import Prepared

_PACKAGES = ("torch", "transformers", "ray", "datasets", "peft", "numpy")


def conclude(
    run: RunStore,
    job: FineTuneJob,
    plan: Plan,
    prepared: Prepared,
    ended: ExitRecord,
    *,
    wall_seconds: float,
) -> RunResult:
    """The result of an attempt that ended, with its report where the run is finished."""
    found = run.get_json("report/outcome.json") if ended.phase is Phase.SUCCEEDED else None
    outcome = Outcome.from_json(json.dumps(found)) if found is not None else None
    account = account_of(run.spent())
    starts = run.starts(ended.attempt)
    newest = chain(run)
    result = RunResult(
        phase=ended.phase,
        failure=ended.failure,
        # An end as it should be needs no remark; the report would show it as one.
        message="" if ended.phase is Phase.SUCCEEDED else ended.message,
        job=run.job,
        namespace=run.namespace,
        run=run.run,
        attempt=ended.attempt,
        run_uri=f"{run.store.uri.rstrip('/')}/{run.key()}",
        task=plan.task,
        metric=plan.evaluation.metric,
        steps=ended.step,
        total_steps=plan.total_steps,
        best_step=outcome.best_step if outcome else None,
        stopped_early=outcome.stopped_early if outcome else False,
        resumed_from=starts[0].resumed_step if starts else 0,
        workers=plan.workers,
        splits=outcome.splits if outcome else {},
        bundle=outcome.bundle if outcome else None,
        seconds=account.seconds,
        wall_seconds=wall_seconds,
        metered_seconds=account.wall / 1e9,
        cost_microdollars=account.microdollars,
        money=dict(account.money),
        unpriced_seconds=account.unpriced_seconds,
        price_microdollars_per_hour=plan.price_microdollars_per_hour,
        checkpoints=[
            CheckpointResult(step=m.step, name=m.name, bytes=m.bytes, metric=m.metric)
            for m in newest
        ],
        digest_chain=outcome.chain if outcome else (newest[0].chain if newest else ""),
        environment=_environment(),
    )
    if outcome is None:
        return result
    return _with_report(run, job, plan, prepared, outcome.history, result)


def _with_report(
    run: RunStore,
    job: FineTuneJob,
    plan: Plan,
    prepared: Prepared,
    history: History,
    result: RunResult,
) -> RunResult:
    from tunefleet.evaluate.card import write_card
    from tunefleet.evaluate.gate import judge
    from tunefleet.evaluate.report import ReportData, write_report
    from tunefleet.train.finish import unpack_scores

    shown = "test" if "test" in result.splits else "validation"
    gate = job.spec.serving.gate if job.spec.serving else None
    report = run.store.local_path(run.key("report", "report.html"))
    result = result.model_copy(
        update={
            "gate": judge(gate, result.splits[shown].after) if gate else None,
            "report": str(report) if report else f"{result.run_uri}/report/report.html",
            "report_copy": None if report else str(_copy_of(run)),
        }
    )
    data = ReportData(
        job=job,
        plan=plan,
        facts=prepared.facts,
        result=result,
        history=history,
        scores={
            split: unpack_scores(run.store.get(run.key("report", f"scores-{split}.npz")))
            for split in result.splits
        },
        rows=prepared.rows,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    folder = Path(tempfile.mkdtemp(prefix="tunefleet-report-"))
    try:
        write_report(data, folder)
        card = write_card(data, folder)
        for name in ("report.html", "report.json"):
            run.store.put(run.key("report", name), folder / name)
        if result.report_copy:
            copy = Path(result.report_copy)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "report.html", copy)
        run.store.put(run.key("report", "README.md"), card)
        if result.bundle:
            # The card is not part of the digest: it may say what the model cost.
            run.store.put(_card_key(run, result.bundle.uri), card)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _copy_of(run: RunStore) -> Path:
    """Where a browser finds the report of a run that lies in a remote store."""
    from tunefleet.data.cache import cache_root, digest_values

    return cache_root() / "reports" / digest_values(run.uri)[:16] / f"{run.job}-{run.run}.html"


def _card_key(run: RunStore, bundle_uri: str) -> str:
    return run.key("bundle", bundle_uri.rstrip("/").rsplit("/", 1)[-1], "README.md")


def _environment() -> dict[str, str]:
    found = {
        "tunefleet": VERSION,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
