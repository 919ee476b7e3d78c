"""The report of a run: ``report.html`` for people, ``report.json`` for scripts.

Decides which split is looked at (test where there is one) and puts the parts together; the
page is a function of the JSON. Imports ``api``, ``plan``, ``data``, ``tasks.contract``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.job import FineTuneJob
from tunefleet.data.tokens import Rows
from tunefleet.evaluate import baseline as plain
from tunefleet.evaluate import page, scored, sections
from tunefleet.evaluate.chance import Chance, chance
from tunefleet.evaluate.content import BaselineContent, ReportContent, Scored, SplitContent
from tunefleet.evaluate.interval import paired
from tunefleet.evaluate.result import History, RunResult
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts
from tunefleet.tasks.contract import Scores


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report is made of.

    ``scores`` are those of the tuned model, per split, in unit order; ``rows`` gives the rows
    of a split by name, and ``created`` is the time of the end (ISO 8601), shown as it is.
    """

    job: FineTuneJob
    plan: Plan
    facts: Facts
    result: RunResult
    history: History
    scores: Mapping[str, Scores]
    rows: Callable[[str], Rows]
    created: str = ""

    @property
    def split(self) -> str:
        """The split that is looked at: test where it was scored, else validation."""
        return "test" if "test" in self.scores else "validation"


def write_report(data: ReportData, folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into ``folder``; returns the page's path."""
    content = assemble(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(content.to_json(indent=1), encoding="utf-8")
    target = folder / "report.html"
    target.write_text(page.render(content), encoding="utf-8")
    return target


def assemble(data: ReportData) -> ReportContent:
    """Everything the report shows."""
    split = data.split
    scores = data.scores.get(split)
    looked_at: Scored | None = None
    floor, beside = Chance(), None
    if scores is not None and len(scores["loss"]):
        kind = scored.kind_of(scores)
        looked_at = scored.describe(kind, data.job, data.facts, scores, data.rows(split))
        floor = chance(kind, scores, data.facts, data.rows)
        if kind == "single-label" and "text" in data.rows("train").columns:
            beside = _baseline(data, split, scores)
    splits = _splits(data, floor, beside)
    return sections.content(
        data.job,
        data.plan,
        data.facts,
        data.result,
        data.history,
        created=data.created,
        split=split,
        splits=splits,
        baseline=beside,
        chance_note=floor.note,
        scored=looked_at,
    )


def _splits(data: ReportData, floor: Chance, beside: BaselineContent | None) -> list[SplitContent]:
    options = data.job.spec.options
    found = []
    for split, result in data.result.splits.items():
        here = split == data.split
        found.append(
            sections.split_metrics(
                data.job,
                split,
                result,
                scores=data.scores.get(split),
                seed=data.plan.seed,
                classes=len(data.facts.data.labels),
                threshold=float(getattr(options, "threshold", 0.5)),
                chance=floor.metrics if here else {},
                baseline=beside.metrics if here and beside else {},
            )
        )
    return sorted(found, key=lambda item: item.split != data.split)


def _baseline(data: ReportData, split: str, scores: Scores) -> BaselineContent | None:
    labels = data.facts.data.labels
    held_out = scored.in_unit_order(scores, data.rows(split))
    fitted = plain.fit(data.rows("train"), held_out, labels) if held_out else None
    if fitted is None:
        return None
    true = scores["label"].astype("int64")
    tuned = scores["predicted"].astype("int64")
    ours, theirs = tuned == true, fitted.predicted == true
    gap = paired(
        true,
        tuned,
        fitted.predicted,
        data.job.spec.primary_metric,
        seed=data.plan.seed,
        classes=len(labels),
    )
    return BaselineContent(
        name=plain.NAME,
        settings=f"word 1- and 2-grams, {fitted.features:,} features, scikit-learn's defaults",
        train_rows=fitted.train_rows,
        metrics=fitted.metrics,
        both_right=int((ours & theirs).sum()),
        only_tuned_right=int((ours & ~theirs).sum()),
        only_baseline_right=int((~ours & theirs).sum()),
        both_wrong=int((~ours & ~theirs).sum()),
        difference=gap.value if gap else None,
        low=gap.low if gap else None,
        high=gap.high if gap else None,
        note=fitted.note,
    )
