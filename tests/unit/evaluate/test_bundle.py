from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_bundles import LABELS, rows_of, sharpen, tiny_bundle, tiny_task
from tests.tiny_models import SENTENCES, tiny_bert
from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.api.words import Precision
from tunefleet.data.tokens import TokenStore
from tunefleet.evaluate.bundle import build_bundle, read_task
from tunefleet.evaluate.golden import read_golden
from tunefleet.evaluate.predictor import Predictor
from tunefleet.storage.bundle import bundle_digest, seal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("made"), sources={"text": "review"})


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def test_a_bundle_says_what_it_answers_and_how_it_is_asked(made: Path) -> None:
    facts = read_task(made)
    assert facts.task == "text-classification"
    assert facts.labels == list(LABELS)
    assert [column.name for column in facts.columns] == ["text"]
    assert (facts.max_length, facts.sources) == (64, {"text": "review"})
    assert (facts.precision, facts.base_model) == (Precision.FP32, "tiny")


def test_a_bundle_holds_safetensors_only(made: Path) -> None:
    kinds = {path.suffix for path in made.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}
    assert {oct(path.stat().st_mode)[-3:] for path in made.rglob("*") if path.is_file()} == {"644"}


def test_the_same_model_makes_the_same_digest(made: Path, tmp_path: Path) -> None:
    base = made.parent / "base"
    again = tiny_bundle(tmp_path, base=base, sources={"text": "review"})
    assert bundle_digest(again) == bundle_digest(made)
    other = tiny_bundle(tmp_path, base=base, sources={"text": "review"}, seed=4)
    assert bundle_digest(other) != bundle_digest(made)


def test_transformers_alone_loads_it_and_gives_the_same_answers(made: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(made).eval()
    tokenizer = AutoTokenizer.from_pretrained(made)
    ours = Predictor.open(made, device="cpu")
    answers = ours.predict([{"text": text} for text in SENTENCES])
    for text, answer in zip(SENTENCES, answers, strict=True):
        with torch.no_grad():
            row = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert answer["label"] == model.config.id2label[int(row.argmax())]
        assert answer["score"] == pytest.approx(float(row.max()), abs=1e-5)
    assert len({answer["label"] for answer in answers}) > 1
    assert model.config.label2id == {label: index for index, label in enumerate(LABELS)}


def test_the_golden_batch_is_of_held_out_rows_from_short_to_long(made: Path) -> None:
    golden = read_golden(made)
    lengths = [len(tokens) for tokens in golden.tokens]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1
    assert set(golden.units) <= {index * 3 + 7 for index in range(len(SENTENCES))}


def test_an_opened_bundle_reproduces_its_golden_batch(made: Path) -> None:
    predictor = Predictor.open(made, device="cpu")
    assert predictor.deviation is not None
    assert predictor.deviation < 1e-5
    assert predictor.digest == bundle_digest(made)


def _append_label(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["0"] = "great"
    (folder / "config.json").write_text(json.dumps(config))


def _touch_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] += 0.001
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


EDITS: list[tuple[str, Callable[[Path], object], str]] = [
    ("a label renamed in config.json", _append_label, "config.json"),
    ("a weight moved by a thousandth", _touch_weight, "model.safetensors"),
    ("a golden output deleted", lambda f: (f / "tunefleet/golden.json").unlink(), "golden.json"),
    ("a file added", lambda f: (f / "extra.py").write_text("x = 1"), "extra.py"),
]


@pytest.mark.parametrize(("name", "edit", "named"), EDITS, ids=[name for name, _, _ in EDITS])
def test_a_bundle_edited_by_hand_is_refused(
    bundle: Path, name: str, edit: Callable[[Path], object], named: str
) -> None:
    edit(bundle)
    with pytest.raises(ModelError, match=named):
        Predictor.open(bundle, device="cpu")


def test_the_model_card_may_be_edited(bundle: Path) -> None:
    (bundle / "README.md").write_text("# my model")
    assert Predictor.open(bundle, device="cpu").deviation == pytest.approx(0, abs=1e-5)


def test_swapped_weights_fail_the_golden_batch_even_under_a_new_seal(
    made: Path, bundle: Path, tmp_path: Path
) -> None:
    other = tiny_bundle(tmp_path / "other", base=made.parent / "base", seed=9)
    shutil.copy(other / "model.safetensors", bundle / "model.safetensors")
    seal(bundle, {})
    with pytest.raises(
        ModelError, match=r"logits of unit \d differs by [\d.]+, allowed is"
    ) as told:
        Predictor.open(bundle, device="cpu")
    assert "fp32" in str(told.value)
    assert Predictor.open(bundle, device="cpu", check=False).deviation is None


def test_a_swapped_tokenizer_fails_even_under_a_new_seal(bundle: Path, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base", texts=SENTENCES[:4], vocab_size=90)
    shutil.copy(base / "tokenizer.json", bundle / "tokenizer.json")
    seal(bundle, {})
    with pytest.raises(ModelError, match="other tokens"):
        Predictor.open(bundle, device="cpu")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no bundle"):
        Predictor.open(tiny_bert(tmp_path / "base"))


def test_a_task_of_another_version_is_refused(bundle: Path) -> None:
    path = bundle / "tunefleet" / "task.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"task": "image-segmentation"}))
    with pytest.raises(ModelError, match="no task 'image-segmentation'"):
        read_task(bundle)
    path.write_text(json.dumps(record | {"version": 2}))
    with pytest.raises(ModelError, match="another version"):
        read_task(bundle)


def test_a_model_that_does_not_save_what_it_computes_is_never_sealed(tmp_path: Path) -> None:
    """A tensor outside the state dict changes the answers and would be lost by saving."""
    base = tiny_bert(tmp_path / "base")
    task = tiny_task()
    model = task.load_model(base, ModelSpec(uri=str(base)), 3)
    sharpen(model)
    model.get_submodule("classifier").register_forward_hook(lambda _m, _i, out: out + 0.01)
    tokenizer = task.load_tokenizer(base)
    rows = rows_of({"text": list(SENTENCES), "label": [0] * len(SENTENCES)})
    store = TokenStore.write(tmp_path / "store", task.encode(rows, tokenizer), {})
    with pytest.raises(ModelError, match="does not reproduce its golden batch"):
        build_bundle(
            tmp_path / "bundle",
            task_name="text-classification",
            task=task,
            model=model,
            tokenizer=tokenizer,
            store=store,
            rows=rows,
            precision=Precision.FP32,
            base_model="tiny",
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "store"]


def test_a_bundle_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    first = tiny_bundle(tmp_path)
    (first / "leftover.bin").write_bytes(b"x")
    assert not (tiny_bundle(tmp_path, seed=4) / "leftover.bin").exists()
    shutil.rmtree(first)
    first.mkdir()
    (first / "thesis.txt").write_text("mine")
    with pytest.raises(ModelError, match="left as it is"):
        tiny_bundle(tmp_path, seed=5)
    assert (first / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "labels", "cells"),
    [
        pytest.param({"problem": "multi-label"}, LABELS, [[0, 2], [1], []], id="several labels"),
        pytest.param({"problem": "regression"}, (), [0.5, -1.0, 3.0], id="a number"),
    ],
)
def test_every_problem_makes_a_bundle(
    tmp_path: Path, options: dict[str, object], labels: tuple[str, ...], cells: Sequence[object]
) -> None:
    columns: dict[str, Sequence[object]] = {"text": list(SENTENCES[:3]), "label": cells}
    folder = tiny_bundle(tmp_path, options=options, labels=labels, columns=columns)
    answer = Predictor.open(folder, device="cpu").predict([{"text": SENTENCES[0]}])[0]
    assert set(answer) == ({"labels", "scores"} if labels else {"value"})


def test_a_bf16_bundle_has_the_tolerance_of_bf16(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path, precision=Precision.BF16)
    golden = read_golden(folder)
    assert golden.tolerance == 5e-2
    assert "bf16" in golden.reason
    assert Predictor.open(folder, device="cpu").deviation == pytest.approx(0, abs=5e-2)


@pytest.mark.parametrize("form", ["instruction", "chat", "text"])
def test_a_language_model_makes_a_bundle(tmp_path: Path, form: str) -> None:
    options: dict[str, object] = {"format": form, "maxNewTokens": 4}
    folder = tiny_bundle(tmp_path, task_name="causal-lm", options=options, labels=())
    predictor = Predictor.open(folder, device="cpu")
    assert predictor.deviation == pytest.approx(0, abs=1e-4)
    name = predictor.input_columns[0].name
    question = [{"role": "user", "content": "hello"}] if form == "chat" else "hello"
    assert len(predictor.predict([{name: question}, {name: question}])) == 2
    assert read_golden(folder).units
