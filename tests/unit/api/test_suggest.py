"""The nearest word to a wrong one."""

from __future__ import annotations

import pytest

from tunefleet.api.fields import all_fields
from tunefleet.api.suggest import SYNONYMS, did_you_mean, nearest, squeeze

FIELDS = ["epochs", "maxSteps", "batchSize", "learningRate", "trustRemoteCode"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("epoch", "epochs"),
        ("Epochs", "epochs"),
        ("max_steps", "maxSteps"),
        ("max-steps", "maxSteps"),
        ("batchsise", "batchSize"),
        ("lr", "learningRate"),
        ("num_train_epochs", "epochs"),
        ("trust_remote_code", "trustRemoteCode"),
        ("zzz", None),
        ("", None),
        ("___", None),
        ("é" * 5000, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_nearest_word_is_found(word: str, found: str | None) -> None:
    assert nearest(word, FIELDS) == found


def test_nothing_is_near_among_no_words() -> None:
    assert nearest("epochs", []) is None
    assert did_you_mean("epochs", []) == ""


def test_every_word_of_another_tool_leads_to_a_field_that_exists() -> None:
    known = {str(path[-1]) for path in all_fields()}
    assert set(SYNONYMS.values()) <= known
    assert all(squeeze(word) == word for word in SYNONYMS)
