"""The history of a run, bounded in size, so that it can stand in every checkpoint.

Decides the resolution of curves: at most ``POINTS`` stretches of steps; when they are full,
neighbours are joined and stretches get twice as long.
"""

from __future__ import annotations

import math

from tunefleet.channel.schema import EvaluationRecord
from tunefleet.evaluate.result import CurvePoint, History
from tunefleet.train.step import StepResult

POINTS = 512


class HistoryBuilder:
    """Collects steps and evaluations; starts from the history of a checkpoint."""

    def __init__(self, history: History | None = None) -> None:
        past = history or History()
        self._curve = list(past.curve)
        self._stride = past.stride
        self._open: list[tuple[int, float, float, float]] = []
        self.evaluations = list(past.evaluations)
        self.skipped = list(past.skipped_steps)
        self.samples = past.samples
        self.tokens = past.tokens

    def add_step(self, step: int, result: StepResult) -> None:
        """Record the step after which ``step`` steps are done."""
        self.samples += result.units
        self.tokens += result.tokens
        if not result.applied:
            self.skipped.append(step)
        if math.isfinite(result.loss) and math.isfinite(result.grad_norm):
            self._open.append((step, result.loss, result.grad_norm, result.learning_rate))
        if len(self._open) >= self._stride:
            self._close()

    def add_evaluation(self, record: EvaluationRecord) -> None:
        """Record an evaluation; one of the same step (after a resume) is replaced."""
        self.evaluations = [past for past in self.evaluations if past.step != record.step]
        self.evaluations.append(record)

    def snapshot(self) -> History:
        """The history so far."""
        return History(
            curve=self._curve + ([_mean(self._open)] if self._open else []),
            stride=self._stride,
            evaluations=self.evaluations,
            skipped_steps=self.skipped,
            samples=self.samples,
            tokens=self.tokens,
        )

    def _close(self) -> None:
        self._curve.append(_mean(self._open))
        self._open = []
        if len(self._curve) >= POINTS:
            pairs = zip(self._curve[::2], self._curve[1::2], strict=False)
            self._curve = [_join(first, second) for first, second in pairs]
            self._stride *= 2


def _mean(steps: list[tuple[int, float, float, float]]) -> CurvePoint:
    count = len(steps)
    return CurvePoint(
        step=steps[-1][0],
        loss=sum(item[1] for item in steps) / count,
        grad_norm=sum(item[2] for item in steps) / count,
        learning_rate=steps[-1][3],
    )


def _join(first: CurvePoint, second: CurvePoint) -> CurvePoint:
    return CurvePoint(
        step=second.step,
        loss=(first.loss + second.loss) / 2,
        grad_norm=(first.grad_norm + second.grad_norm) / 2,
        learning_rate=second.learning_rate,
    )
