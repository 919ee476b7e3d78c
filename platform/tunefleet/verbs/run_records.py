"""What is said about runs: the results of listing, showing and comparing them.

Decides the columns and their order, once for terminal, notebook and JSON. Imports ``api`` and
the records of ``evaluate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunefleet.api.base import Document
from tunefleet.api.words import FailureClass, Phase
from tunefleet.evaluate import words
from tunefleet.evaluate.compare import Comparison, Gap
from tunefleet.evaluate.content import MetricValue, SplitContent
from tunefleet.evaluate.result import RunResult
from tunefleet.verbs import sections
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = "Interrupted"


class AttemptSummary(Document):
    """One attempt of a run: a life of its process."""

    attempt: int
    created: str
    host: str
    state: str
    step: int | None = None
    message: str = ""
    failure: FailureClass | None = None
    seconds: float | None = None
    cost_microdollars: int | None = None
    unpriced_seconds: float = 0.0


class RunSummary(Document):
    """A run in a line. ``state`` is a phase, or ``Interrupted`` for one that was killed.

    ``metric`` is the job's chosen one on ``split`` (test where there is one).
    """

    namespace: str
    job: str
    run: str
    uri: str
    state: str
    created: str
    task: str
    model: str
    steps: int
    total_steps: int
    metric: MetricValue | None = None
    split: str = ""
    gate_passed: bool | None = None
    worker_seconds: float
    cost_microdollars: int | None = None
    unpriced_seconds: float = 0.0
    report: str | None = None
    bundle: str | None = None

    @property
    def name(self) -> str:
        """How the run is called: ``job/run-0003``, with its namespace unless ``default``."""
        head = "" if self.namespace == "default" else f"{self.namespace}/"
        return f"{head}{self.job}/{self.run}"


class RunList(Document):
    """The runs of a store, by job, the newest first."""

    store: str
    runs: list[RunSummary]

    def render(self, console: Console) -> None:
        """As a table."""
        if not self.runs:
            console.print(f"no runs in {self.store}", highlight=False, soft_wrap=True)
            return
        sections.render(self._sections(), console)

    def _repr_html_(self) -> str:
        return sections.to_html("Runs", self._sections())

    def _sections(self) -> list[Section]:
        heads = ("run", "state", "metric", "before", "after", "steps", "cost", "begun", "model")
        rows = [
            (
                run.name,
                run.state,
                f"{run.metric.name} ({run.split})" if run.metric else "",
                words.metric(run.metric.before) if run.metric else "",
                words.metric(run.metric.after) if run.metric else "",
                f"{run.steps:,}/{run.total_steps:,}",
                words.cost(run.cost_microdollars, run.unpriced_seconds),
                run.created[:16].replace("T", " "),
                run.model,
            )
            for run in self.runs
        ]
        styles = tuple(_STYLES.get(run.state, "") for run in self.runs)
        return [Section(self.store, rows, heads, frozenset({3, 4, 5, 6}), styles)]


_STYLES = {Phase.FAILED: "red", INTERRUPTED: "yellow", Phase.STOPPED: "yellow"}


class RunDetails(Document):
    """A run with everything that is known about it."""

    summary: RunSummary
    attempts: list[AttemptSummary]
    splits: list[SplitContent]
    settings: dict[str, str]
    result: RunResult | None = None

    def render(self, console: Console) -> None:
        """As titled tables."""
        sections.render(self._sections(), console)

    def _repr_html_(self) -> str:
        return sections.to_html(self.summary.name, self._sections())

    def _sections(self) -> list[Section]:
        run = self.summary
        about = [
            ("state", run.state),
            ("task", run.task),
            ("model", run.model),
            ("steps", f"{run.steps:,} of {run.total_steps:,}"),
            ("worker time", words.duration(run.worker_seconds)),
            ("cost", words.cost(run.cost_microdollars, run.unpriced_seconds)),
            ("store", run.uri),
        ]
        about += [("bundle", run.bundle)] if run.bundle else []
        about += [("report", run.report)] if run.report else []
        found = [Section(run.name, about)]
        for split in self.splits:
            rows = [(m.name, *_three(m)) for m in split.metrics]
            heads = ("metric", "before", "after", "95 % interval")
            title = f"{split.units:,} {split.split} rows"
            found.append(Section(title, rows, heads, frozenset({1, 2, 3})))
        attempts = [
            (
                str(a.attempt),
                a.state,
                "" if a.step is None else f"{a.step:,}",
                "" if a.seconds is None else words.duration(a.seconds),
                words.cost(a.cost_microdollars, a.unpriced_seconds),
                a.created,
                a.message,
            )
            for a in self.attempts
        ]
        lives = ("attempt", "ended", "step", "worker time", "cost", "begun", "")
        found.append(Section("Attempts", attempts, lives, frozenset({2, 3, 4})))
        return [*found, Section("Settings", list(self.settings.items()))]


class RunComparison(Document):
    """Runs side by side."""

    comparison: Comparison

    def render(self, console: Console) -> None:
        """As titled tables."""
        sections.render(self._sections(), console)

    def _repr_html_(self) -> str:
        return sections.to_html("Comparison", self._sections())

    def _sections(self) -> list[Section]:
        found = self.comparison
        right = frozenset(range(1, 2 * len(found.runs)))
        outcomes = [(item.name, *item.values) for item in found.outcomes]
        parts = [Section("What became of them", outcomes, ("", *found.runs))]
        for split in dict.fromkeys(item.split for item in found.metrics):
            rows = []
            for item in found.metrics:
                if item.split == split:
                    cells = [words.metric(value.after if value else None) for value in item.values]
                    gaps = [_gap(gap) for gap in item.gaps[1:]]
                    arrow = "↑" if item.higher else "↓"
                    rows.append((f"{item.name} {arrow}", *cells, *gaps))
            against = [f"{name} − {found.runs[0]}" for name in found.runs[1:]]
            title = f"Metrics on the {split} rows (brackets: paired 95 % interval)"
            parts.append(Section(title, rows, ("", *found.runs, *against), right))
        settings = [(item.name, *item.values) for item in found.settings]
        title = "Settings that differ" if settings else "No setting differs"
        return [*parts, Section(title, settings, ("", *found.runs) if settings else ())]


def _three(metric: MetricValue) -> tuple[str, str, str]:
    span = ""
    if metric.low is not None and metric.high is not None:
        span = f"{words.metric(metric.low)} to {words.metric(metric.high)}"
    return words.metric(metric.before), words.metric(metric.after), span


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return ""
    text = words.signed(gap.value)
    if gap.low is not None and gap.high is not None:
        text += f" [{words.signed(gap.low)}, {words.signed(gap.high)}]"
    return text
