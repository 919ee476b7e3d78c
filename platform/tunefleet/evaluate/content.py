"""The shape of ``report.json``: every number and every text that the report shows.

``report.html`` is a function of this document alone, so whatever can be seen can also be
read by a script. Imports ``api``, ``channel`` and the plan's records.
"""

from __future__ import annotations

from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.words import Phase
from tunefleet.channel.schema import EvaluationRecord
from tunefleet.evaluate.result import BundleResult, CheckpointResult, CurvePoint, GateResult
from tunefleet.plan.document import Decision, MemoryPart
from tunefleet.plan.facts import Finding

Kind = Literal["single-label", "multi-label", "regression", "language-model", "other"]


class MetricValue(Document):
    """A metric of one split: before, after, its 95 % interval, and what simple means reach.

    ``chance`` is what a constant answer, chosen on the training rows, reaches.
    """

    name: str
    help: str
    higher: bool
    before: float | None = None
    after: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    chance: float | None = None


class SplitContent(Document):
    """The metrics of a split."""

    split: str
    units: int
    metrics: list[MetricValue]


class BaselineContent(Document):
    """TF-IDF with logistic regression on the same split, row by row beside the tuned model.

    ``difference`` is tuned minus baseline in the primary metric, with its paired interval.
    """

    name: str
    settings: str
    train_rows: int
    metrics: dict[str, float]
    both_right: int
    only_tuned_right: int
    only_baseline_right: int
    both_wrong: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


class ClassRow(Document):
    """A line of a classification report. ``average_precision`` for multi-label alone."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    average_precision: float | None = None


class ClassificationContent(Document):
    """The classification report: classes, then averages. ``accuracy`` for one label alone."""

    classes: list[ClassRow]
    accuracy: float | None
    averages: list[ClassRow]
    text: str


class ConfusionContent(Document):
    """Counts by true (rows) and predicted (columns) label.

    With many classes ``labels`` are those with the most mistakes and the last one gathers
    all others (``gathered`` classes). ``pairs`` are the commonest confusions of all classes.
    """

    labels: list[str]
    counts: list[list[int]]
    gathered: int = 0
    pairs: list[ConfusedPair]


class ConfusedPair(Document):
    """``count`` rows of class ``true`` were taken for ``predicted``."""

    true: str
    predicted: str
    count: int
    of: int


class Bin(Document):
    """A stretch of values from ``low`` to ``high``: ``count`` units, of them ``marked``.

    ``mean`` is the mean value inside, ``rate`` what came true (reliability) or a mean loss.
    """

    low: float
    high: float
    count: int
    marked: int = 0
    mean: float | None = None
    rate: float | None = None


class Slice(Document):
    """A part of the split: how many units, and how well they went."""

    name: str
    count: int
    value: float


class Sample(Document):
    """A unit worth reading, with the place where it was written."""

    text: str
    clipped: int = 0
    second_text: str = ""
    true: str = ""
    predicted: str = ""
    confidence: float | None = None
    loss: float | None = None
    tokens: int | None = None
    file: str = ""
    line: int | None = None
    id: int


class ScatterContent(Document):
    """True and predicted values (a sample of them where there are many), and residuals."""

    points: list[list[float]]
    sampled_from: int
    bias: float
    residuals: list[Bin]


class Scored(Document):
    """What the scores of the split that was looked at show."""

    kind: Kind
    units: int
    mistakes: int | None = None
    classification: ClassificationContent | None = None
    confusion: ConfusionContent | None = None
    reliability: list[Bin] = []
    ece: float | None = None
    histogram: list[Bin] = []
    slices: list[Slice] = []
    slice_by: str = ""
    scatter: ScatterContent | None = None
    samples: list[Sample] = []
    threshold: float | None = None


class SplitCard(Document):
    """A split in the data card."""

    split: str
    rows: int
    units: int
    tokens: int
    truncated: int
    shortest: int
    median: int
    longest: int
    digest: str


class ClassBalance(Document):
    """How often a class occurs in each split."""

    name: str
    counts: dict[str, int]


class DataCard(Document):
    """What the model learned from."""

    digest: str
    files: list[str]
    columns: dict[str, str]
    splits: list[SplitCard]
    classes: list[ClassBalance]
    more_classes: int
    lengths: list[Bin]
    max_length: int
    max_length_reason: str
    findings: list[Finding]


class CauseShare(Document):
    """Worker-seconds of one cause, and what they cost."""

    cause: str
    seconds: float
    share: float
    microdollars: int | None = None


class Setting(Document):
    """A resolved setting."""

    name: str
    value: str


class Commands(Document):
    """How to go on."""

    predict: str
    serve: str
    python: str


class Curves(Document):
    """What happened during training."""

    points: list[CurvePoint]
    smoothed: list[float]
    stride: int
    evaluations: list[EvaluationRecord]
    skipped_steps: list[int]
    steps_per_epoch: int
    samples: int
    tokens: int


class Headline(Document):
    """The first thing a reader sees."""

    title: str
    model: str
    sentence: str
    split: str
    split_note: str
    units: int
    metric: MetricValue
    gate: GateResult | None
    wall_seconds: float
    planned_seconds: float
    cost_microdollars: int | None
    price_microdollars_per_hour: int | None
    verdict: str


class ReportContent(Document):
    """The whole report."""

    version: Literal[1] = 1
    created: str
    phase: Phase
    message: str
    job: str
    namespace: str
    run: str
    run_uri: str
    attempt: int
    task: str
    headline: Headline
    commands: Commands | None
    splits: list[SplitContent]
    baseline: BaselineContent | None
    chance_note: str
    interval_note: str
    curves: Curves
    scored: Scored | None
    data: DataCard
    causes: list[CauseShare]
    workers: int
    steps: int
    total_steps: int
    best_step: int | None
    stopped_early: bool
    resumed_from: int
    settings: list[Setting]
    decisions: list[Decision]
    warnings: list[str]
    memory: list[MemoryPart]
    memory_available: int
    checkpoints: list[CheckpointResult]
    bundle: BundleResult | None
    environment: dict[str, str]
    digests: dict[str, str]
