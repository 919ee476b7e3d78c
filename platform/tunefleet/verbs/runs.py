"""``tunefleet runs``: the runs of a checkpoint store, listed, shown and compared.

Decides how a run is named: ``job`` (its newest), ``job/3``, ``namespace/job/run-0003``.
Reads storage alone: neither torch nor ray is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.errors import SpecError
from tunefleet.api.suggest import did_you_mean
from tunefleet.evaluate import words
from tunefleet.evaluate.compare import Side, compare, flatten
from tunefleet.verbs.run_reading import attempts_of, gaps_of, result_of, splits_of, summary_of
from tunefleet.verbs.run_records import RunComparison, RunDetails, RunList

if TYPE_CHECKING:
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import Store

DEFAULT_STORE = "runs"

_NUMBER = re.compile(r"(?:run-)?0*(\d{1,9})")


def list_runs(
    store: str = DEFAULT_STORE, base: str | Path | None = None, *, job: str | None = None
) -> RunList:
    """The runs of a store (a folder or URI, relative to ``base``), the newest first."""
    opened = _open(store, base)
    names = [(space, name) for space, name in _jobs(opened) if job in (None, name)]
    if job is not None and not names:
        raise _unknown(opened, job, [name for _, name in _jobs(opened)])
    found = [
        summary_of(run) for space, name in names for run in reversed(_all(opened, space, name))
    ]
    return RunList(store=opened.uri, runs=found)


def show_run(run: str, store: str = DEFAULT_STORE, base: str | Path | None = None) -> RunDetails:
    """One run: ``job`` (its newest), ``job/3``, ``job/run-0003`` or with the namespace first."""
    found = _find(_open(store, base), run)
    return RunDetails(
        summary=summary_of(found),
        attempts=attempts_of(found),
        splits=splits_of(found),
        settings=flatten((found.get_json("job.json") or {}).get("spec", {})),
        result=result_of(found),
    )


def find_run(run: str, store: str, base: str | Path | None = None) -> RunStore:
    """A run by its name; raises ``SpecError`` with the nearest names."""
    return _find(_open(store, base), run)


def compare_runs(
    runs: Sequence[str], store: str = DEFAULT_STORE, base: str | Path | None = None
) -> RunComparison:
    """Two or more runs side by side; the others are compared with the first.

    Where two runs were scored on the same rows, differences have a paired interval.
    """
    if len(runs) < 2:
        raise SpecError("a comparison needs two runs", remedy="name a second one: job/1 job/2")
    opened = _open(store, base)
    found = [_find(opened, run) for run in runs]
    summaries = [summary_of(run) for run in found]
    sides = [
        Side(
            name=summary.name,
            job=run.get_json("job.json") or {},
            plan=run.get_json("plan.json") or {},
            splits=splits_of(run),
            gaps=gaps_of(found[0], run) if run is not found[0] else {},
        )
        for run, summary in zip(found, summaries, strict=True)
    ]
    outcomes = {
        "state": [s.state for s in summaries],
        "steps": [f"{s.steps:,} of {s.total_steps:,}" for s in summaries],
        "worker time": [words.duration(s.worker_seconds) for s in summaries],
        "cost": [words.cost(s.cost_microdollars, s.unpriced_seconds) for s in summaries],
    }
    return RunComparison(comparison=compare(sides, outcomes))


# -- finding ---------------------------------------------------------------------------


def _open(store: str, base: str | Path | None) -> Store:
    from tunefleet.storage.store import open_store

    return open_store(store, Path(base) if base is not None else Path.cwd())


def _jobs(store: Store) -> list[tuple[str, str]]:
    from tunefleet.storage.run import RunStore

    return RunStore.jobs(store)


def _all(store: Store, namespace: str, job: str) -> list[RunStore]:
    from tunefleet.storage.run import RunStore

    return RunStore.all(store, namespace, job)


def _find(store: Store, name: str) -> RunStore:
    parts = [part for part in name.strip("/").split("/") if part]
    number = _NUMBER.fullmatch(parts[-1]) if len(parts) > 1 else None
    wanted = parts[:-1] if number else parts
    known = _jobs(store)
    chosen = [key for key in known if list(key) == wanted or [key[1]] == wanted]
    if len(chosen) > 1:
        chosen = [key for key in chosen if key[0] == "default"] or chosen
    if len(chosen) != 1:
        raise _unknown(store, "/".join(wanted), [job for _, job in known])
    runs = _all(store, *chosen[0])
    if number is None:
        return runs[-1]
    for run in runs:
        if int(run.run.removeprefix("run-")) == int(number.group(1)):
            return run
    raise SpecError(
        f"{'/'.join(chosen[0])} has no run {parts[-1]} in {store.uri}",
        remedy=f"there are {', '.join(run.run for run in runs)}",
    )


def _unknown(store: Store, name: str, known: list[str]) -> SpecError:
    if not known:
        return SpecError(
            f"there are no runs in {store.uri}",
            remedy="name the folder that checkpoints.uri points to",
        )
    hint = did_you_mean(name, known) or f"there are {', '.join(sorted(set(known)))}"
    return SpecError(f"no job {name!r} has a run in {store.uri}", remedy=hint)
