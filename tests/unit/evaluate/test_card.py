from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.unit.evaluate.sample import sample
from tests.unit.evaluate.synthetic import KINDS
from tunefleet.evaluate.card import card, write_card

SECTIONS = (
    "## Results",
    "## Intended use and limits",
    "## How to use",
    "## Training data",
    "## Training\n",
    "## Reproducibility",
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hub_reads_the_card_and_finds_the_results_in_it(kind: str, tmp_path: Path) -> None:
    data = sample(kind)
    path = write_card(data, tmp_path)
    assert path == tmp_path / "README.md"
    found = ModelCard.load(path)
    known: dict[str, Any] = found.data.to_dict()
    assert known["library_name"] == "transformers"
    assert known["base_model"] == "example/small-encoder"
    assert not {"language", "license", "datasets"} & set(known)
    name, results = model_index_to_eval_results(known["model-index"])
    assert name == "review-sentiment"
    after = data.result.splits["test"].after
    assert [r.metric_value for r in results] == pytest.approx(list(after.values()), abs=1e-6)
    assert {r.dataset_split for r in results} == {"test"}
    assert all(section in found.text for section in SECTIONS)


def test_a_base_model_from_a_folder_is_no_hub_name() -> None:
    data = sample()
    model = {"uri": "/srv/models/small-encoder"}
    values = data.job.model_dump(by_alias=True, exclude_none=True)
    values["spec"]["model"] = model
    text = card(dataclasses.replace(data, job=type(data.job).model_validate(values)))
    assert "base_model" not in text.split("---")[1]
    assert "/srv/models" not in text
    assert "`small-encoder`" in text


def test_no_folder_of_the_machine_and_no_text_of_a_row_is_published() -> None:
    data = sample()
    text = card(data)
    assert data.result.run_uri not in text
    assert "/srv/" not in text
    assert not [row for row in data.rows("test").columns["text"] if row in text]


def test_labels_stay_text_in_markdown_and_html() -> None:
    text = card(sample(labels=["<script>x</script>", "a|b [c](d)"]))
    assert "<script>" not in text
    assert "a\\|b \\[c](d)" in text


def test_a_run_without_scores_still_has_a_card() -> None:
    data = sample()
    result = data.result.model_copy(update={"splits": {}, "gate": None, "bundle": None})
    text = card(dataclasses.replace(data, result=result, scores={}))
    assert "No split was scored." in text
    assert ModelCard(text).data.get("library_name") == "transformers"
