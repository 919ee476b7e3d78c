from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import XLNetConfig, XLNetForSequenceClassification

from tests.tiny_models import SENTENCES, tiny_llama
from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks.text_classification import TASK, TextClassificationOptions
from tunefleet.data.batch import collate
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.tasks import task_of
from tunefleet.tasks.batch import padding_of
from tunefleet.tasks.contract import Batch, TaskContext
from tunefleet.tasks.models import quiet
from tunefleet.tasks.text_classification import TextClassification

SPEC = ModelSpec(uri="model")
CELLS: dict[str, list[Any]] = {
    "single-label": [i % 3 for i in range(10)],
    "multi-label": [[], [0], [1, 2], [0, 1, 2], [2], [], [0], [1, 2], [0, 2], [1]],
    "regression": [i / 4 - 1 for i in range(10)],
}

SCORES = {
    "single-label": {
        "label": "i4",
        "predicted": "i4",
        "confidence": "f4",
        "label_probability": "f4",
    },
    "multi-label": {"labels": "u1", "probabilities": "f4"},
    "regression": {"label": "f4", "predicted": "f4"},
}


def _task(max_length: int = 64, **options: Any) -> TextClassification:
    given = TextClassificationOptions(**options)
    labels = () if given.problem == "regression" else ("bad", "fair", "good")
    task = task_of("text-classification", TaskContext(given, labels, max_length))
    assert isinstance(task, TextClassification)
    return task


def _rows(labels: list[Any], pairs: bool = False) -> Rows:
    columns: dict[str, list[Any]] = {"text": list(SENTENCES), "label": labels}
    if pairs:
        columns["textPair"] = list(reversed(SENTENCES))
    return Rows(columns=columns, ids=np.arange(100, 110, dtype=np.int64))


def _batch(task: TextClassification, folder: Path, rows: Rows, store: Path) -> Batch:
    tokenizer = task.load_tokenizer(folder)
    written = TokenStore.write(store, task.encode(rows, tokenizer), padding_of(tokenizer))
    return collate(written, np.arange(len(rows)))


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_units_are_the_tokenizers_ids_and_types_in_the_stores_types(
    bert: Path, pairs: bool
) -> None:
    task = _task(max_length=14)
    tokenizer = task.load_tokenizer(bert)
    rows = _rows(CELLS["single-label"], pairs)
    encoded = task.encode(rows, tokenizer)
    seconds: Any = rows.columns["textPair"] if pairs else None
    expected = tokenizer(list(SENTENCES), seconds, truncation=True, max_length=14)
    for name in ("input_ids", "token_type_ids"):
        flat = encoded.ragged[name]
        assert flat.dtype == np.int32
        assert np.split(flat, encoded.offsets[1:-1])[3].tolist() == expected[name][3]
        assert flat.tolist() == [value for one in expected[name] for value in one]
    assert encoded.weights.tolist() == [1] * 10
    assert encoded.ids.tolist() == list(range(100, 110))
    full = tokenizer(list(SENTENCES), seconds)["input_ids"]
    assert encoded.truncated == sum(len(ids) > 14 for ids in full) > 0


@pytest.mark.parametrize(
    ("problem", "name", "dtype"),
    [
        ("single-label", "label", np.int32),
        ("multi-label", "labels", np.uint8),
        ("regression", "label", np.float32),
    ],
)
def test_targets_are_kept_in_small_types(bert: Path, problem: str, name: str, dtype: Any) -> None:
    task = _task(problem=problem)
    encoded = task.encode(_rows(CELLS[problem]), task.load_tokenizer(bert))
    assert list(encoded.fixed) == [name]
    assert encoded.fixed[name].dtype == dtype
    if problem == "multi-label":
        assert encoded.fixed[name][2].tolist() == [0, 1, 1]
    else:
        assert encoded.fixed[name].tolist() == CELLS[problem]


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("problem", ["single-label", "multi-label"])
def test_a_label_that_is_not_known_is_refused_with_its_place(
    bert: Path, problem: str, label: int
) -> None:
    task = _task(problem=problem)
    cells = list(CELLS[problem])
    cells[4] = label if problem == "single-label" else [0, label]
    rows = Rows(
        columns={"text": list(SENTENCES), "label": cells},
        ids=np.arange(10),
        files=("a.csv",),
        file_of=np.zeros(10, np.int32),
        lines=np.arange(2, 12),
    )
    with pytest.raises(ValueError, match=r"a\.csv:6: the label is not one of the 3 known"):
        task.encode(rows, task.load_tokenizer(bert))


def _naive_loss(problem: str, logits: torch.Tensor, row: int, smoothing: float) -> torch.Tensor:
    """A row's loss, written out."""
    if problem == "regression":
        return torch.square(logits[0] - CELLS[problem][row])
    if problem == "single-label":
        logs = torch.log(torch.exp(logits) / torch.exp(logits).sum())
        wanted = torch.full((3,), smoothing / 3, dtype=logits.dtype)
        wanted[CELLS[problem][row]] += 1 - smoothing
        return -(wanted * logs).sum()
    total = torch.zeros((), dtype=logits.dtype)
    for label in range(3):
        present = float(label in CELLS[problem][row])
        share = torch.sigmoid(logits[label])
        total = total - present * share.log() - (1 - present) * (1 - share).log()
    return total / 3


@pytest.mark.parametrize(
    ("problem", "smoothing"),
    [("single-label", 0.0), ("single-label", 0.2), ("multi-label", 0.0), ("regression", 0.0)],
)
def test_the_loss_is_the_sum_over_rows_of_a_naive_reference(
    bert: Path, tmp_path: Path, problem: str, smoothing: float
) -> None:
    options: dict[str, Any] = {"label_smoothing": smoothing} if smoothing else {}
    task = _task(problem=problem, **options)
    model: Any = task.load_model(bert, SPEC, 1).double().eval()
    batch = _batch(task, bert, _rows(CELLS[problem]), tmp_path / "store")
    tokenizer: Any = task.load_tokenizer(bert)
    expected = torch.zeros((), dtype=torch.float64)
    for row, text in enumerate(SENTENCES):
        # One at a time, so that the reference has no padding at all.
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        expected = expected + _naive_loss(problem, logits, row, smoothing)
    torch.testing.assert_close(task.loss(model, batch), expected, rtol=1e-10, atol=1e-10)
    batch["weights"][1:] = 0
    one = _naive_loss(
        problem, model(**tokenizer(SENTENCES[0], return_tensors="pt")).logits[0], 0, smoothing
    )
    torch.testing.assert_close(task.loss(model, batch), one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("problem", list(CELLS))
def test_scores_have_their_names_and_give_every_declared_metric(
    bert: Path, tmp_path: Path, problem: str
) -> None:
    task = _task(problem=problem)
    model = task.load_model(bert, SPEC, 1)
    model.train()
    batch = _batch(task, bert, _rows(CELLS[problem]), tmp_path / "store")
    scores: dict[str, Any] = {**task.score(model, batch)}
    assert model.training
    names = {
        "single-label": {
            "label": "i4",
            "predicted": "i4",
            "confidence": "f4",
            "label_probability": "f4",
        },
        "multi-label": {"labels": "u1", "probabilities": "f4"},
        "regression": {"label": "f4", "predicted": "f4"},
    }[problem]
    assert {name: values.dtype.str[1:] for name, values in scores.items()} == {
        "loss": "f4",
        **names,
    }
    assert {len(values) for values in scores.values()} == {10}
    model.eval()
    assert scores["loss"].sum() == pytest.approx(task.loss(model, batch).item(), rel=1e-5)
    declared = [metric.name for metric in TASK.metrics(task.options)]
    assert list(task.metrics(scores)) == declared


def test_scores_do_not_depend_on_label_smoothing(bert: Path, tmp_path: Path) -> None:
    plain, smooth = _task(), _task(label_smoothing=0.3)
    model = plain.load_model(bert, SPEC, 1)
    batch = _batch(plain, bert, _rows(CELLS["single-label"]), tmp_path / "store")
    assert (plain.score(model, batch)["loss"] == smooth.score(model, batch)["loss"]).all()
    assert plain.loss(model, batch) != smooth.loss(model, batch)


def test_probabilities_belong_to_the_answer_and_to_the_label(bert: Path, tmp_path: Path) -> None:
    task = _task()
    model: Any = task.load_model(bert, SPEC, 1)
    with torch.no_grad():
        model.classifier.weight *= 40
    batch = _batch(task, bert, _rows(CELLS["single-label"]), tmp_path / "store")
    scores: dict[str, Any] = {**task.score(model, batch)}
    shares = functional.softmax(torch.from_numpy(task.outputs(model, batch)["logits"]), dim=1)
    rows = range(10)
    assert scores["predicted"].tolist() == shares.argmax(1).tolist()
    np.testing.assert_allclose(scores["confidence"], shares.max(1).values, rtol=1e-6)
    own: Any = [shares[row, CELLS["single-label"][row]] for row in rows]
    np.testing.assert_allclose(scores["label_probability"], own, rtol=1e-6)


@pytest.mark.parametrize("problem", list(CELLS))
def test_answers_are_those_of_the_evaluation(bert: Path, tmp_path: Path, problem: str) -> None:
    options: dict[str, Any] = {"threshold": 0.49} if problem == "multi-label" else {}
    task = _task(problem=problem, **options)
    model: Any = task.load_model(bert, SPEC, 1)
    batch = _batch(task, bert, _rows(CELLS[problem], pairs=True), tmp_path / "store")
    scores: dict[str, Any] = {**task.score(model, batch)}
    items = [
        {"text": first, "textPair": second}
        for first, second in zip(SENTENCES, reversed(SENTENCES), strict=True)
    ]
    answers: list[Any] = task.predict(model, task.load_tokenizer(bert), items)
    for row, answer in enumerate(answers):
        if problem == "regression":
            assert answer == {"value": pytest.approx(scores["predicted"][row], rel=1e-4)}
        elif problem == "multi-label":
            assert list(answer["scores"]) == ["bad", "fair", "good"]
            expected = scores["probabilities"][row]
            assert list(answer["scores"].values()) == pytest.approx(expected, rel=1e-4)
            assert answer["labels"] == [k for k, v in answer["scores"].items() if v >= 0.49]
        else:
            assert answer["label"] == ("bad", "fair", "good")[scores["predicted"][row]]
            assert answer["score"] == pytest.approx(scores["confidence"][row], rel=1e-4)
            assert answer["scores"][answer["label"]] == answer["score"]
            assert sum(answer["scores"].values()) == pytest.approx(1)


def test_texts_and_pairs_may_be_asked_together(bert: Path) -> None:
    task = _task()
    model, tokenizer = task.load_model(bert, SPEC, 1), task.load_tokenizer(bert)
    items: list[dict[str, object]] = [{"text": "a film"}, {"text": "a film", "textPair": "dull"}]
    together: list[Any] = task.predict(model, tokenizer, items)
    for item, answer in zip(items, together, strict=True):
        (alone,) = task.predict(model, tokenizer, [item])
        assert alone["score"] == pytest.approx(answer["score"], rel=1e-5)
    assert task.predict(model, tokenizer, []) == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({}, "item 1: text is missing"),
        ({"text": 3}, "item 1: text is int, not a text"),
        ({"text": "a", "textPair": None}, "item 1: textPair is missing"),
        ({"text": "a", "label": "b"}, "item 1: label is not read; known are text, textPair"),
    ],
    ids=["no text", "a number", "an empty pair", "a field that nothing reads"],
)
def test_an_item_that_cannot_be_read_is_named(
    bert: Path, item: dict[str, object], message: str
) -> None:
    task = _task()
    model, tokenizer = task.load_model(bert, SPEC, 1), task.load_tokenizer(bert)
    with pytest.raises(ValueError, match=message):
        task.predict(model, tokenizer, [{"text": "fine"}, item])


def test_a_decoder_without_a_pad_token_classifies_at_the_last_real_token(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama")
    task = _task()
    tokenizer = task.load_tokenizer(folder)
    assert tokenizer.pad_token == tokenizer.eos_token
    model: Any = task.load_model(folder, SPEC, 1)
    assert model.config.pad_token_id == tokenizer.eos_token_id
    assert model.config.use_cache is False
    items = [{"text": text} for text in SENTENCES]
    together: list[Any] = task.predict(model, tokenizer, items)
    for item, answer in zip(items, together, strict=True):
        (alone,) = task.predict(model, tokenizer, [item])
        assert alone["scores"] == pytest.approx(answer["scores"], rel=1e-4)


def test_a_model_that_answers_in_its_padding_is_refused(tmp_path: Path) -> None:
    config = XLNetConfig(vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=16)
    with quiet():
        XLNetForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="XLNet"):
        _task().load_model(tmp_path, SPEC, 1)


MINILM = Path(__file__).parents[3] / ".quickstart" / "model"


@pytest.mark.skipif(
    not MINILM.is_dir(),
    reason="the quickstart's model is not here: .venv/bin/python jobs/quickstart/fetch.py gets it",
)
def test_a_real_model_learns_from_ten_sentences(tmp_path: Path) -> None:
    folder = MINILM
    task = _task(max_length=16)
    model = task.load_model(folder, SPEC, 1)
    batch = _batch(task, folder, _rows(CELLS["single-label"]), tmp_path / "store")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)
    before = task.metrics(task.score(model, batch))
    for _ in range(6):
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model, batch) / batch["weights"].sum())
        optimizer.step()
    after = task.metrics(task.score(model, batch))
    assert after["loss"] < before["loss"] / 2
    assert after["accuracy"] >= 0.9
