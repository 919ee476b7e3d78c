"""``tunefleet check``: everything that can be found out before anything is spent.

Decides what a person is shown of a job's facts: split sizes, labels, lengths, what was
noticed, whether the checkpoint store can be written and the model fits into memory, and, on
request, what the model will see. Imports ``api`` and ``plan``; the rest inside functions,
torch only for ``show``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.words import Severity
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts, Finding, SplitFacts
from tunefleet.verbs import sections
from tunefleet.verbs.jobfile import JobFile, load
from tunefleet.verbs.preparing import prepare_job
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tunefleet.data.preview import Preview, Token
    from tunefleet.train.prepare import Prepared

Progress = Callable[[str, int, int], None]

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_LABELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found out about a job. ``previews``: what the model will see."""

    facts: Facts
    plan: Plan
    previews: tuple[Preview, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """What was noticed, the worst first."""
        order = list(_STYLES)
        return sorted(self.facts.data.findings, key=lambda found: order.index(found.severity))

    @property
    def splits(self) -> dict[str, SplitFacts]:
        """The splits by name."""
        data = self.facts.data
        named = {"train": data.train, "validation": data.validation}
        return named | ({"test": data.test} if data.test is not None else {})

    def to_json(self, *, indent: int | None = None) -> str:
        """The same as JSON."""
        values = {
            "job": self.plan.job,
            "facts": json.loads(self.facts.to_json()),
            "lengths": {n: _spread(split.lengths) for n, split in self.splits.items()},
            "memory": {
                "bytes": _needed(self.plan),
                "available": self.plan.memory_available,
            },
            "warnings": self.plan.warnings,
            "show": [asdict(preview) for preview in self.previews],
        }
        return json.dumps(values, indent=indent, ensure_ascii=False)

    def render(self, console: Console) -> None:
        """Print it."""
        sections.render(self._sections(), console)
        for preview in self.previews:
            _render_preview(preview, console)
        for found in self.findings:
            console.print(_finding(found), style=_STYLES[found.severity], highlight=False)
        for warning in self.plan.warnings:
            console.print(f"warning  {warning}", style="yellow", highlight=False)
        console.print(self._summary(), style="bold", highlight=False)

    def _repr_html_(self) -> str:
        rows = [(_finding(found),) for found in self.findings]
        shown = self._sections() + ([Section("noticed", rows)] if rows else [])
        seen = "".join(_preview_html(preview) for preview in self.previews)
        return sections.to_html(f"{self.plan.job}: {self._summary()}", shown) + seen

    def _summary(self) -> str:
        if _needed(self.plan) > self.plan.memory_available:
            return "the plan does not fit into this machine's memory"
        count = sum(found.severity is Severity.WARNING for found in self.findings)
        count += len(self.plan.warnings)
        if not count:
            return "nothing stands in the way"
        return f"nothing stands in the way; {count} {'warning' if count == 1 else 'warnings'}"

    def _sections(self) -> list[Section]:
        shown = [_data(self.splits, self.facts)]
        if self.facts.data.labels:
            shown.append(_labels(self.splits, self.facts.data.labels))
        return [*shown, _around(self.facts, self.plan)]


def check(
    job_file: str | Path | JobFile,
    overrides: Sequence[str] = (),
    *,
    show: int = 0,
    device: str = "auto",
    price: str | None = None,
    price_sheet: str | Path | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Check a job; raises a ``TunefleetError`` with all that would stop it.

    ``show`` units of the training rows are returned as the model will see them. A price is
    needed where the job has a limit in dollars (see :func:`tunefleet.verbs.plan.plan`).
    """
    from tunefleet.plan.planner import make_plan
    from tunefleet.train.machine import machine_facts
    from tunefleet.verbs.pricing import pricing

    prices = pricing(price, price_sheet)

    file = job_file if isinstance(job_file, JobFile) else load(job_file, overrides)
    prepared = prepare_job(file, progress)
    machine = machine_facts(device)
    rate = next(iter(prices.rates(machine.device.name)), None)
    plan = make_plan(file.job, prepared.facts, machine, rate=rate)
    return CheckResult(prepared.facts, plan, _previews(file, prepared, show) if show else ())


def _previews(file: JobFile, prepared: Prepared, count: int) -> tuple[Preview, ...]:
    from tunefleet.data.preview import previews
    from tunefleet.data.tokens import TokenStore
    from tunefleet.tasks import task_of
    from tunefleet.tasks.contract import TaskContext

    facts, spec = prepared.facts, file.job.spec
    context = TaskContext(spec.options, tuple(facts.data.labels), facts.max_length)
    tokenizer = task_of(spec.task, context).load_tokenizer(Path(facts.model.path))
    return previews(
        TokenStore(Path(facts.data.train.store)),
        prepared.rows("train"),
        tokenizer,
        spec.declaration.columns(spec.options),
        facts.data.labels,
        count=count,
        seed=spec.training.seed,
    )


# -- tables ----------------------------------------------------------------------------------


def _spread(lengths: Sequence[Sequence[int]]) -> dict[str, int]:
    """Percentiles of a histogram of (length, units)."""
    total = sum(count for _, count in lengths)
    found: dict[str, int] = {}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        passed = 0
        for length, count in lengths:
            passed += count
            if passed >= share * total:
                found[name] = length
                break
    return found


def _data(splits: dict[str, SplitFacts], facts: Facts) -> Section:
    rows = []
    for name, split in splits.items():
        spread = _spread(split.lengths)
        cut = split.truncated / split.units if split.units else 0.0
        lengths = [f"{spread[key]:,}" for key in ("p50", "p95", "max")]
        rows.append((name, f"{split.rows:,}", f"{split.tokens:,}", *lengths, f"{cut:.1%}"))
    files = ", ".join(facts.data.files[:3]) + (" …" if len(facts.data.files) > 3 else "")
    return Section(
        f"data: {files}",
        rows,
        heads=("", "rows", "tokens", "median", "95 %", "longest", "cut off"),
        numbers=frozenset(range(1, 7)),
    )


def _labels(splits: dict[str, SplitFacts], labels: Sequence[str]) -> Section:
    rows = []
    for label in labels[:_LABELS_SHOWN]:
        cells = [label]
        for split in splits.values():
            count = split.classes.get(label, 0)
            cells += [f"{count:,}", f"{count / split.rows:.1%}" if split.rows else ""]
        rows.append(tuple(cells))
    if len(labels) > _LABELS_SHOWN:
        rows.append((f"… and {len(labels) - _LABELS_SHOWN} more",))
    heads = ["label"]
    for name in splits:
        heads += [name, ""]
    return Section(
        f"{len(labels)} labels", rows, heads=tuple(heads), numbers=frozenset(range(1, len(heads)))
    )


def _around(facts: Facts, plan: Plan) -> Section:
    model, storage = facts.model, facts.storage
    speed = storage.write_bytes_per_second
    needed, there = _needed(plan), plan.memory_available
    return Section(
        "around it",
        [
            ("model", f"{model.source}: {model.architecture}, {model.parameters:,} parameters"),
            ("max length", f"{facts.max_length} tokens: {facts.max_length_reason}"),
            (
                "columns",
                ", ".join(
                    name if name == source else f"{name} from {source!r}"
                    for name, source in facts.data.columns.items()
                ),
            ),
            (
                "storage",
                f"{storage.uri} can be written"
                + (f", {speed / 2**20:,.0f} MiB/s" if speed else ""),
            ),
            (
                "memory",
                f"{needed / 2**20:,.0f} MiB of {there / 2**20:,.0f} MiB on {plan.device}",
            ),
        ],
    )


def _needed(plan: Plan) -> int:
    return sum(part.bytes for part in plan.memory if part.place == "device")


def _finding(found: Finding) -> str:
    place = f"{found.file}:{found.line}: " if found.line else f"{found.file}: " * bool(found.file)
    remedy = f"\n    → {found.remedy}" if found.remedy else ""
    return f"{found.severity.value:<8} {place}{found.message}{remedy}"


# -- what the model will see -----------------------------------------------------------------


def _render_preview(preview: Preview, console: Console) -> None:
    from rich.text import Text

    answer = f" → {preview.answer}" if preview.answer else ""
    real = sum(token.attended for token in preview.tokens)
    head = Text(f"{preview.place}{answer}", style="bold")
    padding = len(preview.tokens) - real
    head.append(f"   {real} tokens, {padding} padding, weight {preview.weight}", style="dim")
    console.print(head)
    console.print(_coloured(preview.tokens))
    console.print()


def _coloured(tokens: Sequence[Token]) -> Text:
    """Tokens apart by a thin mark; padding is counted, not written out."""
    from rich.text import Text

    line = Text()
    for token in tokens:
        if token.attended:
            line.append(token.text, style=_style(token))
            line.append("·", style="dim")
    padding = sum(not token.attended for token in tokens)
    if padding:
        line.append(f" + {padding} × padding (masked)", style="dim")
    return line


def _style(token: Token) -> str:
    if token.supervised:
        return "bold green"
    if token.special:
        return "cyan"
    return "magenta" if token.segment else ""


def _preview_html(preview: Preview) -> str:
    import html

    colours = {"bold green": "#137333", "cyan": "#0b7285", "magenta": "#9c36b5"}
    spans = "·".join(
        f'<span style="color:{colours.get(_style(token), "inherit")}">'
        f"{html.escape(token.text)}</span>"
        for token in preview.tokens
        if token.attended
    )
    return f"<p><b>{html.escape(preview.place)}</b> {html.escape(preview.answer)}<br>{spans}</p>"
