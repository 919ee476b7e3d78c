"""The end of a run: score the best checkpoint, make the bundle, leave the outcome.

Decides that what is served is what was evaluated: adapters are merged first, the merged
model is scored on every held-out split by all workers, and the leader makes the bundle from
that same model. Killed here, a run starts again at this stage from its last checkpoint.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from torch import nn

from tunefleet.api.job import FineTuneJob
from tunefleet.data.rows import load_rows
from tunefleet.evaluate.bundle import build_bundle
from tunefleet.evaluate.result import BundleResult, Outcome, SplitResult
from tunefleet.storage.bundle import publish
from tunefleet.storage.checkpoints import Manifest, chain, keep_bundle, retain, verify
from tunefleet.storage.run import RunStore, StartRecord
from tunefleet.tasks.contract import Scores
from tunefleet.tasks.models import merge_adapter
from tunefleet.train.loop import Parts
from tunefleet.train.moving import bundling_seconds, choosing_seconds, restoring_seconds
from tunefleet.train.scoring import score_split
from tunefleet.train.state import WEIGHTS, RunState, restore_weights

OUTCOME = "report/outcome.json"


def finish(
    run: RunStore,
    start: StartRecord,
    parts: Parts,
    state: RunState,
    job: FineTuneJob,
    scratch: Path,
) -> Outcome | None:
    """Score the best weights on every held-out split and leave bundle, scores and outcome.

    Returns the outcome on the leader, None elsewhere. FencedError when a newer attempt or
    start has taken the run over: two of them never leave an outcome.
    """
    parts.expect(choosing_seconds(parts.plan))
    best = parts.group.share(lambda: _best_manifest(run, parts, state))
    if best.step != state.step:
        parts.expect(restoring_seconds(parts.plan))
        with parts.files.of(best, WEIGHTS) as opened:
            restore_weights(parts.model, opened)
    model = merge_adapter(parts.model)
    splits: dict[str, SplitResult] = {}
    for split, before in state.before.items():
        scores = score_split(
            parts.task,
            model,
            parts.stores[split],
            micro_batch=parts.plan.evaluation.micro_batch,
            group=parts.group,
            device=parts.device,
            precision=parts.plan.precision,
            tick=parts.beat,
        )
        splits[split] = SplitResult(
            before=before, after=parts.task.metrics(scores), units=len(parts.stores[split])
        )
        if parts.group.leads:
            run.store.put(run.key("report", f"scores-{split}.npz"), pack_scores(scores))
    outcome = None
    parts.expect(bundling_seconds(parts.plan))
    if parts.group.leads:
        run.check_fence(start.attempt, start.start)
        bundle = _bundle(run, parts, model, job, scratch)
        outcome = Outcome(
            steps=state.step,
            best_step=best.step,
            stopped_early=state.step < parts.plan.total_steps,
            chain=state.chain,
            splits=splits,
            bundle=bundle,
            history=state.history,
        )
        run.check_fence(start.attempt, start.start)
        run.put_json(OUTCOME, outcome)
        keep_bundle(run, bundle.uri.rstrip("/").rsplit("/", 1)[-1])
    parts.group.barrier()
    return outcome


def _best_manifest(run: RunStore, parts: Parts, state: RunState) -> Manifest:
    """The checkpoint of the best evaluation; the newest, loudly, where that one is damaged."""
    history = chain(run)
    newest = history[0]
    # A kill between the last commit and this left more than is to be kept.
    retain(
        run,
        keep_last=parts.plan.checkpoints.keep_last,
        keep_best=parts.plan.checkpoints.keep_best,
        higher_is_better=parts.plan.evaluation.higher_is_better,
        history=history,
    )
    if state.best_step is None:
        return newest
    problem = "it was not kept (checkpoints.keep.best), or its manifest is gone or damaged"
    for manifest in history:
        if manifest.step == state.best_step:
            problems = verify(run, manifest)
            if not problems:
                return manifest
            problem = problems[0]
    assert parts.reporter is not None
    parts.reporter.event(
        "warning",
        f"the best checkpoint (step {state.best_step}) cannot be used, the newest is taken "
        f"instead (step {newest.step}): {problem}",
        newest.step,
    )
    return newest


def _bundle(
    run: RunStore, parts: Parts, model: nn.Module, job: FineTuneJob, scratch: Path
) -> BundleResult:
    folder = scratch / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    store = parts.stores["validation"]
    source = job.spec.model
    build_bundle(
        folder,
        task_name=parts.plan.task,
        task=parts.task,
        model=model,
        tokenizer=parts.task.load_tokenizer(parts.model_path),
        store=store,
        rows=load_rows(store.folder),
        precision=parts.plan.precision,
        base_model=source.name or source.uri or "",
        sources=job.spec.data.columns,
        written=job.spec.data.train,
    )
    published = publish(run, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return BundleResult(
        uri=published.uri, path=published.path, digest=published.digest, bytes=published.bytes
    )


def pack_scores(scores: Scores) -> bytes:
    """Scores as an ``.npz`` file's bytes."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **scores)
    return file.getvalue()


def unpack_scores(data: bytes) -> Scores:
    """The reverse of :func:`pack_scores`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
