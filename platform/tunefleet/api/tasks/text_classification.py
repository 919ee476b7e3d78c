"""Text classification: one label, several labels, a pair of texts, or a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from tunefleet.api.base import Check, Rule
from tunefleet.api.tasks.declaration import Column, Metric, TaskDeclaration, TaskOptions

_THRESHOLD = 0.5
_SEPARATOR = "|"


def _belongs_to(problem: str, key: str, unchanged: str) -> Check:
    return Check(
        f"self.problem == '{problem}' || self.{key} == {unchanged}",
        "has no effect with problem: {problem}",
        (key,),
        f"remove {key}, or set problem: {problem}",
        ((key,), ("problem",)),
        {"problem": "self.problem"},
    )


_THRESHOLDED = _belongs_to("multi-label", "threshold", f"{_THRESHOLD}")
_SEPARATED = _belongs_to("multi-label", "labelSeparator", f"'{_SEPARATOR}'")
_SMOOTHED = _belongs_to("single-label", "labelSmoothing", "0.0")


class TextClassificationOptions(TaskOptions):
    """Options under ``textClassification``.

    ``problem`` is what is predicted: ``single-label`` (softmax over the labels),
    ``multi-label`` (a sigmoid per label; cells hold lists or ``a|b``) or ``regression``
    (one number). With a ``textPair`` column mapped, text and pair are read together.
    """

    checks = (_THRESHOLDED, _SEPARATED, _SMOOTHED)
    problem: Literal["single-label", "multi-label", "regression"] = "single-label"
    threshold: Annotated[float, Field(gt=0, lt=1)] = _THRESHOLD
    label_separator: Annotated[str, Field(min_length=1, max_length=8)] = _SEPARATOR
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def _broken_rules(self) -> Iterator[Rule]:
        several, one = self.problem == "multi-label", self.problem == "single-label"
        if self.threshold != _THRESHOLD and not several:
            yield _THRESHOLDED.broken(problem=self.problem)
        if self.label_separator != _SEPARATOR and not several:
            yield _SEPARATED.broken(problem=self.problem)
        if self.label_smoothing != 0 and not one:
            yield _SMOOTHED.broken(problem=self.problem)


def _options(options: TaskOptions) -> TextClassificationOptions:
    assert isinstance(options, TextClassificationOptions)
    return options


def _columns(options: TaskOptions) -> tuple[Column, ...]:
    kinds: dict[str, Literal["label", "labels", "number"]] = {
        "single-label": "label",
        "multi-label": "labels",
        "regression": "number",
    }
    return (
        Column("text", "text", help="the text that is read"),
        Column("textPair", "text", required=False, help="a second text, read after the first"),
        Column("label", kinds[_options(options).problem], help="what is predicted"),
    )


def _metrics(options: TaskOptions) -> tuple[Metric, ...]:
    problem = _options(options).problem
    if problem == "regression":
        return (
            Metric("rmse", higher=False, help="root mean squared error"),
            Metric("mae", higher=False, help="mean absolute error"),
            Metric("spearman", higher=True, help="rank correlation"),
            Metric("pearson", higher=True, help="linear correlation"),
            Metric("loss", higher=False, help="mean squared error"),
        )
    if problem == "multi-label":
        return (
            Metric("f1_micro", higher=True),
            Metric("f1_macro", higher=True),
            Metric("map", higher=True, help="mean average precision over labels"),
            Metric("exact_match", higher=True, help="share of rows with every label right"),
            Metric("loss", higher=False, help="mean binary cross-entropy per label"),
        )
    return (
        Metric("f1_macro", higher=True),
        Metric("accuracy", higher=True),
        Metric("mcc", higher=True, help="Matthews correlation coefficient"),
        Metric("ece", higher=False, help="expected calibration error, 15 bins"),
        Metric("loss", higher=False, help="mean cross-entropy"),
    )


def _primary(options: TaskOptions) -> str:
    return _metrics(options)[0].name


TASK = TaskDeclaration(
    name="text-classification",
    summary="label a text (or a pair of texts), or give it a number",
    options=TextClassificationOptions,
    columns=_columns,
    metrics=_metrics,
    primary_metric=_primary,
    labelled=lambda options: _options(options).problem != "regression",
    weight_unit="examples",
    example_model="google-bert/bert-base-uncased",
    minimum_labels=lambda options: 2 if _options(options).problem == "single-label" else 1,
)
