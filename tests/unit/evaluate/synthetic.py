"""Synthetic rows, the scores of a made-up model on them, and their metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunefleet.data.tokens import Rows
from tunefleet.tasks.contract import Scores

KINDS = ("single-label", "multi-label", "regression", "language-model")

_GOOD = "a warm and funny film|the cast is superb|I would watch it again|moving to the last scene"
_BAD = (
    "a dull and endless film|the plot makes no sense|I left before the end|flat jokes, poor sound"
)
_FILLER = (
    "we saw it on a rainy Tuesday",
    "my brother had read the book",
    "the theatre was half empty",
    "it runs for two hours and ten minutes",
    "not what the trailer promised, mind you",
)


def text_of(label: int, random: np.random.Generator) -> str:
    """A review whose words tell its label most of the time."""
    phrases = (_BAD, _GOOD)[label % 2].split("|")
    if random.random() < 0.15:
        phrases = (_GOOD, _BAD)[label % 2].split("|")
    parts = [phrases[random.integers(len(phrases))]]
    parts += [_FILLER[i] for i in random.choice(len(_FILLER), random.integers(0, 5), False)]
    random.shuffle(parts)
    return ". ".join(part.capitalize() for part in parts) + "."


def rows_of(kind: str, count: int, first: int, labels: list[str], seed: int) -> Rows:
    """Rows with texts that fit their labels."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, max(len(labels), 2), count)
    texts = [text_of(int(label), random) for label in truth]
    columns: dict[str, Any] = {"text": texts, "label": truth.tolist()}
    if kind == "multi-label":
        columns["label"] = [
            np.flatnonzero(random.random(len(labels)) < 0.3).tolist() for _ in range(count)
        ]
    if kind == "regression":
        columns["label"] = [float(value) for value in random.normal(3.2, 1.1, count)]
    if kind == "language-model":
        columns = {"prompt": [f"Is this good? {text}" for text in texts], "completion": texts}
    return Rows(
        columns=columns,
        ids=np.arange(first, first + count, dtype=np.int64),
        files=("data/reviews.csv",),
        file_of=np.zeros(count, np.int32),
        lines=np.arange(first + 2, first + 2 + count, dtype=np.int64),
    )


def scores_of(kind: str, rows: Rows, labels: list[str], seed: int) -> Scores:
    """Scores of a model that is right most of the time, in another order than the rows."""
    random = np.random.default_rng([seed, 1])
    order = random.permutation(len(rows))
    count = len(rows)
    ids = rows.ids[order]
    if kind == "single-label":
        truth = np.asarray(rows.columns["label"])[order]
        logits = random.normal(0, 1.4, (count, len(labels)))
        logits[np.arange(count), truth] += 2.9
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        here = np.arange(count)
        return {
            "ids": ids,
            "loss": -np.log(shares[here, truth]).astype(np.float32),
            "label": truth.astype(np.int32),
            "predicted": shares.argmax(1).astype(np.int32),
            "confidence": shares.max(1).astype(np.float32),
            "label_probability": shares[here, truth].astype(np.float32),
        }
    if kind == "multi-label":
        truths = np.zeros((count, len(labels)), np.uint8)
        for place, position in enumerate(order):
            truths[place, rows.columns["label"][position]] = 1
        logits = random.normal(0, 1.2, truths.shape) + 3.4 * truths - 1.9
        shares = 1 / (1 + np.exp(-logits))
        losses = -np.log(np.where(truths == 1, shares, 1 - shares)).mean(axis=1)
        return {
            "ids": ids,
            "loss": losses.astype(np.float32),
            "labels": truths,
            "probabilities": shares.astype(np.float32),
        }
    if kind == "regression":
        values = np.asarray(rows.columns["label"])[order]
        guess = values * 0.9 + 0.3 + random.normal(0, 0.35, count)
        return {
            "ids": ids,
            "loss": ((guess - values) ** 2).astype(np.float32),
            "label": values.astype(np.float32),
            "predicted": guess.astype(np.float32),
        }
    tokens = random.integers(6, 90, count).astype(np.int32)
    mean = random.gamma(9.0, 0.2, count) + 8 / tokens
    return {
        "ids": ids,
        "loss": (mean * tokens).astype(np.float32),
        "tokens": tokens,
        "correct": random.binomial(tokens, 0.58).astype(np.int32),
    }


def metrics_of(kind: str, scores: Scores) -> dict[str, float]:
    """The task's metrics, as scikit-learn and plain formulas give them."""
    from scipy import stats
    from sklearn import metrics as sk

    loss = float(scores["loss"].astype(float).mean())
    if kind == "single-label":
        truth, guess = scores["label"], scores["predicted"]
        return {
            "f1_macro": float(sk.f1_score(truth, guess, average="macro", zero_division=0)),
            "accuracy": float(sk.accuracy_score(truth, guess)),
            "mcc": float(sk.matthews_corrcoef(truth, guess)),
            "ece": 0.041,
            "loss": loss,
        }
    if kind == "multi-label":
        truths, guesses = scores["labels"], scores["probabilities"].astype(float) >= 0.5
        return {
            "f1_micro": float(sk.f1_score(truths, guesses, average="micro", zero_division=0)),
            "f1_macro": float(sk.f1_score(truths, guesses, average="macro", zero_division=0)),
            "map": float(sk.average_precision_score(truths, scores["probabilities"])),
            "exact_match": float(sk.accuracy_score(truths, guesses)),
            "loss": loss,
        }
    if kind == "regression":
        true = np.asarray(scores["label"], np.float64)
        said = np.asarray(scores["predicted"], np.float64)
        return {
            "rmse": float(sk.root_mean_squared_error(true, said)),
            "mae": float(sk.mean_absolute_error(true, said)),
            "spearman": float(stats.spearmanr(true, said)[0]),
            "pearson": float(stats.pearsonr(true, said)[0]),
            "loss": float(sk.mean_squared_error(true, said)),
        }
    mean = float(scores["loss"].astype(float).sum() / scores["tokens"].sum())
    share = float(scores["correct"].sum() / scores["tokens"].sum())
    return {"loss": mean, "perplexity": float(np.exp(mean)), "token_accuracy": share}
