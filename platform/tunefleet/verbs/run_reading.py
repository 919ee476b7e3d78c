"""Reading a run back from its folder: what it is, how far it came, what came of it.

Decides what is said of a run that left no result: its attempts tell. Reads storage alone;
only scores need numpy.
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import Phase
from tunefleet.cost.ledger import account_of
from tunefleet.evaluate.compare import Gap
from tunefleet.evaluate.content import MetricValue, ReportContent, SplitContent
from tunefleet.evaluate.result import RunResult
from tunefleet.verbs.run_records import INTERRUPTED, AttemptSummary, RunSummary

if TYPE_CHECKING:
    from tunefleet.evaluate.interval import Scores
    from tunefleet.storage.run import RunStore

_SEED = 17
_MANIFEST = re.compile(r"checkpoints/(\d+)-[^/]+/MANIFEST\.json$")


def summary_of(run: RunStore) -> RunSummary:
    """The run in a line."""
    record = run.get_json("RUN.json") or {}
    plan = run.get_json("plan.json") or {}
    result = result_of(run)
    attempts = attempts_of(run)
    splits = splits_of(run)
    chosen = next((s for s in splits if s.split == "test"), splits[0] if splits else None)
    metric = None
    if chosen and result:
        metric = next((m for m in chosen.metrics if m.name == result.metric), None)
    account = account_of(run.spent())
    return RunSummary(
        namespace=run.namespace,
        job=run.job,
        run=run.run,
        uri=run.uri,
        state=attempts[-1].state if attempts else Phase.PREPARING,
        created=str(record.get("created", "")),
        task=str(plan.get("task", "")),
        model=_model(run),
        steps=result.steps if result else _committed(run),
        total_steps=_whole(plan.get("totalSteps")),
        metric=metric,
        split=chosen.split if chosen and metric else "",
        gate_passed=result.gate.passed if result and result.gate else None,
        worker_seconds=account.total / 1e9,
        cost_microdollars=account.microdollars,
        unpriced_seconds=account.unpriced_seconds,
        report=result.report if result else None,
        bundle=(result.bundle.path or result.bundle.uri) if result and result.bundle else None,
    )


def attempts_of(run: RunStore) -> list[AttemptSummary]:
    """Its attempts, how each ended, and whether the newest still lives (on this machine)."""
    found = []
    newest = run.attempts()[-1:]
    spent = run.spent()
    for attempt in run.attempts():
        claim, ended = run.claim_of(attempt), run.exit_record(attempt)
        account = account_of(record for record in spent if record.attempt == attempt)
        if ended is not None:
            state = str(ended.phase)
        else:
            alive = [attempt] == newest and claim.writer.alive()
            state = str(Phase.RUNNING) if alive else INTERRUPTED
        found.append(
            AttemptSummary(
                attempt=attempt,
                created=claim.created,
                host=claim.host,
                state=state,
                step=ended.step if ended else None,
                message=ended.message if ended else "",
                failure=ended.failure if ended else None,
                seconds=account.total / 1e9 if account.total else None,
                cost_microdollars=account.microdollars,
                unpriced_seconds=account.unpriced_seconds,
            )
        )
    return found


def result_of(run: RunStore) -> RunResult | None:
    """What came of it, where it has ended."""
    found = run.get_json("report/result.json")
    return None if found is None else RunResult.from_json(json.dumps(found))


def _job(run: RunStore) -> FineTuneJob | None:
    found = run.get_json("job.json")
    if found is None:
        return None
    try:
        return FineTuneJob.model_validate_json(json.dumps(found))
    except ValidationError:  # written by a version with other fields
        return None


def _model(run: RunStore) -> str:
    job = _job(run)
    if job is None:
        return ""
    source = job.spec.model
    if source.name:
        return source.name
    if source.from_ is not None:
        return source.from_.job or source.from_.bundle or ""
    return (source.uri or "").rstrip("/").rsplit("/", 1)[-1]


def splits_of(run: RunStore) -> list[SplitContent]:
    """The metrics as the report has them, with intervals; else as the result has them."""
    result = result_of(run)
    if result is None:
        return []
    found = run.get_json("report/report.json")
    if found is not None:
        return ReportContent.from_json(json.dumps(found)).splits
    job = _job(run)
    declared = job.spec.declaration.metrics(job.spec.options) if job else ()
    higher = {metric.name: metric.higher for metric in declared}
    return [
        SplitContent(
            split=name,
            units=split.units,
            metrics=[
                MetricValue(
                    name=metric,
                    help="",
                    higher=higher.get(metric, True),
                    before=split.before.get(metric),
                    after=value,
                )
                for metric, value in split.after.items()
            ],
        )
        for name, split in result.splits.items()
    ]


def gaps_of(first: RunStore, other: RunStore) -> dict[tuple[str, str], Gap]:
    """Paired intervals of every metric, for splits whose rows are the same in both runs."""
    from tunefleet.evaluate.interval import difference

    found: dict[tuple[str, str], Gap] = {}
    labels = _data(other).get("labels")
    classes = len(labels) if isinstance(labels, list) else 0
    job = _job(other)
    threshold = float(getattr(job.spec.options, "threshold", 0.5)) if job else 0.5
    for split in splits_of(other):
        ours, theirs = _scores(other, split.split), _scores(first, split.split)
        if ours is None or theirs is None or _rows(first, split.split) != _rows(other, split.split):
            continue
        for metric in split.metrics:
            gap = difference(
                ours, theirs, metric.name, seed=_SEED, classes=classes, threshold=threshold
            )
            if gap is not None:
                found[(split.split, metric.name)] = Gap(value=gap.value, low=gap.low, high=gap.high)
    return found


def _committed(run: RunStore) -> int:
    """The newest step that a checkpoint was committed for."""
    own = len(run.key("x")) - 1
    found = (_MANIFEST.fullmatch(key[own:]) for key, _ in run.store.list(run.key("checkpoints")))
    return max((int(match.group(1)) for match in found if match), default=0)


def _data(run: RunStore) -> dict[str, object]:
    data = (run.get_json("facts.json") or {}).get("data")
    return data if isinstance(data, dict) else {}


def _rows(run: RunStore, split: str) -> object:
    part = _data(run).get(split)
    return part.get("digest") if isinstance(part, dict) else None


def _scores(run: RunStore, split: str) -> Scores | None:
    import numpy as np

    key = run.key("report", f"scores-{split}.npz")
    if not run.store.exists(key):
        return None
    with np.load(io.BytesIO(run.store.get(key)), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
