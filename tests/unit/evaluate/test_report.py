from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import classification_report

from tests.unit.evaluate.page import Page
from tests.unit.evaluate.sample import sample
from tests.unit.evaluate.synthetic import KINDS
from tunefleet.api.words import Phase
from tunefleet.data.tokens import Rows
from tunefleet.evaluate import page
from tunefleet.evaluate.content import ReportContent
from tunefleet.evaluate.report import ReportData, assemble, write_report
from tunefleet.evaluate.result import History

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    "' onload='alert(3) \" data-tip=\"x\u202e {{ 7 * 7 }} <!-- ]]> \x00\x1b[31m &lt;b&gt;"
)


def render(data: ReportData) -> Page:
    return Page(page.render(assemble(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_whole_page_that_asks_nobody_for_anything(
    kind: str, tmp_path: Path
) -> None:
    target = write_report(sample(kind), tmp_path / "report")
    text = target.read_text(encoding="utf-8")
    found = Page(text)
    assert found.problems == []
    addresses = [
        value
        for _, attributes in found.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "srcset", "data", "poster", "xlink:href"}
    ]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert "default-src 'none'" in text
    assert {"svg", "table", "nav", "main", "h1"} <= {tag for tag, _ in found.tags}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_a_function_of_the_json_beside_it(kind: str, tmp_path: Path) -> None:
    target = write_report(sample(kind), tmp_path)
    written = (tmp_path / "report.json").read_text(encoding="utf-8")
    again = ReportContent.from_json(written)
    assert page.render(again) == target.read_text(encoding="utf-8")
    assert again.to_json(indent=1) == written


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_has_a_title_and_ids_are_unique(kind: str) -> None:
    found = render(sample(kind))
    pictures = [attributes for tag, attributes in found.tags if tag == "svg"]
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a["aria-labelledby"].split() for a in pictures if a.get("role") == "img"]
    assert len(named) >= 5
    assert all(set(names) <= set(ids) for names in named)


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"], [f"class {i}" for i in range(30)]])
def test_the_classification_report_is_scikit_learns(labels: list[str] | None) -> None:
    data = sample(labels=labels)
    names = data.facts.data.labels
    scores = data.scores["test"]
    expected = classification_report(
        scores["label"],
        scores["predicted"],
        labels=range(len(names)),
        target_names=names,
        zero_division=0,
        output_dict=True,
    )
    found = render(data)
    for name in [*names, "macro avg", "weighted avg"]:
        numbers = expected[name]
        _, precision, recall, f1, support = found.row(name)
        assert precision == f"{numbers['precision']:.2f}"
        assert recall == f"{numbers['recall']:.2f}"
        assert f1 == f"{numbers['f1-score']:.2f}"
        assert support == f"{int(numbers['support']):,}"
    assert found.row("accuracy")[3] == f"{expected['accuracy']:.2f}"


def test_a_label_called_accuracy_does_not_mix_up_the_report() -> None:
    data = sample(labels=["accuracy", "macro avg"])
    content = assemble(data).scored
    assert content is not None
    assert content.classification is not None
    scores = data.scores["test"]
    assert content.classification.classes[0].support == int((scores["label"] == 0).sum())
    assert content.classification.accuracy == pytest.approx(
        (scores["label"] == scores["predicted"]).mean()
    )


def test_the_multi_label_table_has_average_precision() -> None:
    from sklearn.metrics import average_precision_score

    data = sample("multi-label")
    scores = data.scores["test"]
    expected = average_precision_score(scores["labels"][:, 2], scores["probabilities"][:, 2])
    row = render(data).row(data.facts.data.labels[2])
    assert row[4] == f"{expected:.2f}"


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_texts_labels_and_names_stay_text(kind: str) -> None:
    data = sample(kind, labels=[HOSTILE, "fine & good"] if kind == "single-label" else None)
    inner = data.rows

    def rows(split: str) -> Rows:
        part = inner(split)
        columns = {
            name: [HOSTILE] * len(part) if isinstance(cells[0], str) else cells
            for name, cells in part.columns.items()
        }
        columns["textPair"] = [HOSTILE] * len(part)
        return dataclasses.replace(part, columns=columns, files=(f"{HOSTILE}.csv",))

    result = data.result.model_copy(
        update={"message": HOSTILE, "environment": {HOSTILE: HOSTILE}, "run_uri": HOSTILE}
    )
    found = render(dataclasses.replace(data, rows=rows, result=result))
    assert found.problems == []
    tags = [tag for tag, _ in found.tags]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [name for _, a in found.tags for name in a if name.startswith("on")]
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}" in found.text
    shown = [text for text in found.texts if "alert(1)" in text and "prompt" not in text]
    assert any("\x00" not in text and "\x1b" not in text for text in shown)


def test_mistakes_are_the_surest_wrong_answers_with_text_and_place() -> None:
    data = sample()
    scores, rows = data.scores["test"], data.rows("test")
    wrong = scores["label"] != scores["predicted"]
    surest = np.flatnonzero(wrong)[np.argmax(scores["confidence"][wrong])]
    position = int(np.flatnonzero(rows.ids == scores["ids"][surest])[0])
    content = assemble(data).scored
    assert content is not None
    first = content.samples[0]
    assert first.text == rows.columns["text"][position]
    assert (first.file, first.line) == rows.place(position)
    assert first.true == data.facts.data.labels[rows.columns["label"][position]]
    assert first.confidence == pytest.approx(scores["confidence"][surest])


def test_time_and_money_by_cause_add_up() -> None:
    content = assemble(sample())
    assert sum(c.share for c in content.causes) == pytest.approx(1)
    assert sum(c.microdollars or 0 for c in content.causes) == 44_160
    assert sum(c.seconds for c in content.causes) == pytest.approx(496.8)


def test_no_price_is_called_unpriced_and_never_zero() -> None:
    found = render(sample(price=None))
    assert "unpriced" in found.text
    assert "$0" not in found.text


def test_the_comparison_with_the_bag_of_words_counts_rows() -> None:
    content = assemble(sample())
    beside = content.baseline
    assert beside is not None
    parts = (
        beside.both_right,
        beside.only_tuned_right,
        beside.only_baseline_right,
        beside.both_wrong,
    )
    assert sum(parts) == 400
    gap = (beside.only_tuned_right - beside.only_baseline_right) / 400
    accuracy = next(m for m in content.splits[0].metrics if m.name == "accuracy")
    assert accuracy.after is not None
    assert accuracy.after - beside.metrics["accuracy"] == pytest.approx(gap)


def test_a_baseline_that_wins_is_said_to_win() -> None:
    data = sample()
    scores = {
        **data.scores,
        "test": {**data.scores["test"], "predicted": 1 - data.scores["test"]["label"]},
    }
    after = {**data.result.splits["test"].after, "f1_macro": 0.0}
    split = data.result.splits["test"].model_copy(update={"after": after})
    result = data.result.model_copy(update={"splits": {"test": split}})
    text = render(dataclasses.replace(data, scores=scores, result=result)).text
    assert "The bag of words wins by" in text


def test_an_interval_of_another_value_than_the_reported_one_is_left_out() -> None:
    content = assemble(sample())
    by_name = {metric.name: metric for metric in content.splits[0].metrics}
    assert by_name["f1_macro"].low is not None
    assert by_name["ece"].low is None  # the sample reports an ECE that its scores do not have


def one_class_predicted(data: ReportData) -> ReportData:
    zero = np.zeros_like(data.scores["test"]["predicted"])
    return dataclasses.replace(
        data, scores={**data.scores, "test": {**data.scores["test"], "predicted": zero}}
    )


def all_right(data: ReportData) -> ReportData:
    scores = data.scores["test"]
    return dataclasses.replace(
        data, scores={**data.scores, "test": {**scores, "predicted": scores["label"]}}
    )


def without_history(data: ReportData) -> ReportData:
    return dataclasses.replace(data, history=History())


def stopped_without_scores(data: ReportData) -> ReportData:
    result = data.result.model_copy(
        update={
            "phase": Phase.STOPPED,
            "splits": {},
            "gate": None,
            "bundle": None,
            "best_step": None,
            "checkpoints": [],
            "seconds": {},
            "environment": {},
        }
    )
    return dataclasses.replace(data, result=result, scores={})


def rows_that_are_gone(data: ReportData) -> ReportData:
    inner = data.rows
    return dataclasses.replace(data, rows=lambda split: inner(split).take(np.arange(3)))


def another_task(data: ReportData) -> ReportData:
    only = {"ids": data.scores["test"]["ids"], "loss": data.scores["test"]["loss"]}
    return dataclasses.replace(data, scores={"test": only})


def infinite_loss(data: ReportData) -> ReportData:
    loss = data.scores["test"]["loss"].copy()
    loss[:5] = np.inf
    return dataclasses.replace(data, scores={"test": {**data.scores["test"], "loss": loss}})


CORNERS = [
    one_class_predicted,
    all_right,
    without_history,
    stopped_without_scores,
    rows_that_are_gone,
    another_task,
    infinite_loss,
]


@pytest.mark.parametrize("corner", CORNERS, ids=lambda corner: corner.__name__.replace("_", " "))
def test_corner_cases_still_make_a_whole_page_of_finite_numbers(
    corner: object, tmp_path: Path
) -> None:
    assert callable(corner)
    target = write_report(corner(sample()), tmp_path)
    text = target.read_text(encoding="utf-8")
    assert Page(text).problems == []
    assert not re.search(r"\b(nan|inf|infinity|None|undefined)\b", Page(text).text, re.IGNORECASE)

    def finite(value: object) -> bool:
        if isinstance(value, dict):
            return all(finite(inner) for inner in value.values())
        if isinstance(value, list):
            return all(finite(inner) for inner in value)
        return not isinstance(value, float) or math.isfinite(value)

    assert finite(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("split", "said"),
    [(True, "looked at once, after training"), (False, "they also chose the best checkpoint")],
    ids=["test rows were looked at once", "validation rows chose the checkpoint"],
)
def test_it_says_which_rows_the_headline_is_about(split: bool, said: str) -> None:
    content = assemble(sample(test_split=split))
    assert said in content.headline.split_note
    assert content.headline.split == ("test" if split else "validation")


def test_a_tiny_split_has_a_report_without_intervals() -> None:
    content = assemble(sample(held_out=3))
    assert content.interval_note == ""
    assert page.render(content)
