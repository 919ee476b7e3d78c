"""The work that is measured: three sets of texts, one model, one job file for each.

Decides lengths and sizes. Made-up texts are single-token words, so that a text's length in
tokens is what it was meant to be. Everything is written once into a scratch folder and is a
function of the seed alone.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / ".quickstart" / "model"
REVIEWS = ROOT / ".quickstart" / "reviews.csv"
BATCH, WORKERS, LEARNING_RATE = 32, 2, 5e-5
SPECIAL_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """A set of texts. ``goals`` are the least ratios over (random, length-grouped) sampling.

    ``slow``: fewer steps are measured, because the peer takes ten seconds over one of the
    long-tailed texts.
    """

    name: str
    data: Path
    max_length: int
    goals: tuple[float, float | None]
    grouped: bool
    slow: bool = False


def workloads(scratch: Path) -> list[Workload]:
    """All three, written below ``scratch``."""
    scratch.mkdir(parents=True, exist_ok=True)
    lengths = np.random.default_rng(17)
    # A long tail: half of the texts below 40 tokens, one in a hundred above 400.
    tail = np.clip(np.exp(lengths.normal(np.log(40), 1.0, 4000)), 8, 512).astype(int)
    return [
        Workload(
            "equal length, 32 tokens",
            equal_length_texts(scratch / "equal.csv", 32, 4000),
            64,
            (1.0, None),
            grouped=False,
        ),
        Workload("reviews, 27 tokens", REVIEWS, 128, (1.4, 1.0), grouped=True),
        Workload(
            "long tail, 8–512 tokens",
            _made_up(scratch / "tail.csv", tail),
            512,
            (2.5, 1.0),
            grouped=True,
            slow=True,
        ),
    ]


def equal_length_texts(path: Path, length: int, rows: int) -> Path:
    """Made-up texts that are all ``length`` tokens long."""
    return _made_up(path, np.full(rows, length))


def job_text(
    workload: Workload,
    *,
    name: str,
    max_steps: int,
    seed: int,
    checkpoints: Path,
    test: float = 0.0,
    model: Path = MODEL,
    batch: int = BATCH,
    workers: int = WORKERS,
    precision: str = "fp32",
    save: int | str | None = None,
) -> str:
    """A job over a workload (JSON is YAML): one look at the validation rows, at the end.

    ``save`` is ``checkpoints.every`` (default: at the end only).
    """
    held_out = {"fraction": test} if test else None
    return json.dumps(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {
                "task": "text-classification",
                "model": {"uri": str(model)},
                "data": {
                    "train": {"uri": str(workload.data)},
                    "validation": {"fraction": 0.01},
                    **({"test": held_out} if held_out else {}),
                    "columns": {"text": "text", "label": "label"},
                    "labels": ["negative", "positive"],
                },
                "training": {
                    "maxSteps": max_steps,
                    "batchSize": batch,
                    "microBatch": batch // workers,
                    "maxLength": workload.max_length,
                    "precision": precision,
                    "seed": seed,
                    "optimizer": {"learningRate": LEARNING_RATE, "warmup": 0},
                },
                "evaluation": {"every": max_steps},
                "workers": {"count": workers},
                "checkpoints": {"uri": str(checkpoints), "every": save or max_steps},
            },
        }
    )


def _made_up(path: Path, lengths: np.typing.NDArray[np.integer]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = _words()
        draw = np.random.default_rng(3)
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number, length in enumerate(lengths):
                chosen = draw.choice(words, size=int(length) - SPECIAL_TOKENS)
                writer.writerow([" ".join(chosen), ("negative", "positive")[number % 2]])
        draft.rename(path)
    return path


def _words() -> list[str]:
    """Words of the model's vocabulary that are one token each."""
    vocabulary = (MODEL / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
