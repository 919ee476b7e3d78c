"""What a bag of words reaches on the same split: TF-IDF with logistic regression.

Decides the plain model that stands beside the tuned one in the report, because a user should
know when it is enough: word 1- and 2-grams, sublinear TF-IDF, scikit-learn's default
regularisation, nothing tuned. Imports numpy and ``data``; scikit-learn inside the function.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunefleet.data.tokens import Rows
from tunefleet.evaluate.measures import Floats, Ints, classification_metrics

NAME = "TF-IDF + logistic regression"
MOST_ROWS = 100_000
_MOST_FEATURES = 200_000
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline's metrics and its predictions, row by row of the held-out split."""

    metrics: dict[str, float]
    predicted: Ints
    train_rows: int
    features: int
    note: str


def fit(train: Rows, held_out: Rows, labels: Sequence[str]) -> Baseline | None:
    """Fit on ``train``, score ``held_out``. Deterministic; at most 100,000 training rows.

    None where there is nothing to fit: no rows, fewer than two classes in the training rows,
    or no words in their texts.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    used = _spread(len(train), MOST_ROWS)
    targets = _labels(train)[used]
    if not len(held_out) or len(np.unique(targets)) < 2:
        return None
    texts = _texts(train)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=_MOST_FEATURES,
        # A word of one letter ("I", "5") is a word; scikit-learn's default drops it.
        token_pattern=r"(?u)\b\w+\b",
        dtype=np.float32,
    )
    try:
        matrix = vectorizer.fit_transform([texts[i] for i in used])
    except ValueError:  # an empty vocabulary
        return None
    model = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(matrix, targets)
    known = model.predict_proba(vectorizer.transform(_texts(held_out)))
    probabilities: Floats = np.zeros((len(held_out), len(labels)))
    probabilities[:, model.classes_] = known
    notes = ["it had not converged after 1,000 iterations"] if caught else []
    if len(used) < len(train):
        notes.append(f"fitted on {len(used):,} of {len(train):,} rows, evenly spread")
    return Baseline(
        metrics=classification_metrics(_labels(held_out), probabilities),
        predicted=probabilities.argmax(axis=1),
        train_rows=len(used),
        features=len(vectorizer.vocabulary_),
        note="; ".join(notes),
    )


def _spread(count: int, most: int) -> Ints:
    """At most ``most`` positions out of ``count``, evenly spread, in ascending order."""
    if count <= most:
        return np.arange(count)
    return np.arange(most, dtype=np.int64) * count // most


def _texts(rows: Rows) -> list[str]:
    first = [str(cell)[:_MOST_CHARACTERS] for cell in rows.columns["text"]]
    if "textPair" not in rows.columns:
        return first
    pairs = zip(first, rows.columns["textPair"], strict=True)
    return [f"{one} {str(two)[:_MOST_CHARACTERS]}" for one, two in pairs]


def _labels(rows: Rows) -> Ints:
    return np.asarray(rows.columns["label"], dtype=np.int64)
