from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.tiny_models import tiny_bert, tiny_llama
from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.tasks import models
from tunefleet.tasks.models import Head, load_model, load_tokenizer

SPEC = ModelSpec(uri="model")
SINGLE = "single_label_classification"


def _classifier(
    folder: Path, labels: tuple[str, ...] = ("no", "yes"), seed: int = 1, problem: str = SINGLE
) -> Any:
    head = Head(labels, problem)
    auto = AutoModelForSequenceClassification
    return load_model(auto, folder, SPEC, seed, head=head, lora_task="SEQ_CLS")


def _language_model(folder: Path) -> Any:
    return load_model(AutoModelForCausalLM, folder, SPEC, 1, head=None, lora_task="CAUSAL_LM")


def _same(first: nn.Module, second: nn.Module) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def test_a_model_is_loaded_in_single_precision_with_its_labels(bert: Path) -> None:
    model = _classifier(bert, ("no", "maybe", "yes"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert model.config.label2id == {"no": 0, "maybe": 1, "yes": 2}
    assert model.config.problem_type == SINGLE
    assert model.classifier.weight.shape == (3, 32)
    assert model.config._attn_implementation == "sdpa"
    rates = {part.p for part in model.modules() if isinstance(part, nn.Dropout)}
    assert rates == {0.1}


def test_weights_saved_in_half_precision_are_raised(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "half"))
    weights = {k: v.to(torch.bfloat16) for k, v in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    assert {p.dtype for p in _classifier(folder).parameters()} == {torch.float32}


def test_the_new_head_is_a_function_of_the_seed_alone(bert: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (
        _classifier(bert, seed=1),
        _classifier(bert, seed=1),
        _classifier(bert, seed=2),
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert _same(first, again)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert _same(first.bert, other.bert)
    assert first.classifier.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not first.classifier.bias.any()


def test_loading_says_nothing_on_standard_error(
    bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _classifier(bert)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("labels", "problem", "kept"),
    [
        (("no", "yes"), SINGLE, True),
        (("yes", "no"), SINGLE, False),
        (("bad", "good"), SINGLE, False),
        (("no", "maybe", "yes"), SINGLE, False),
        (("no", "yes"), "multi_label_classification", False),
        ((), "regression", False),
    ],
    ids=[
        "the same labels",
        "the same labels in another order",
        "other labels, as many",
        "more labels",
        "the same labels, another question",
        "a number",
    ],
)
def test_the_head_of_a_tuned_model_is_kept_only_for_the_same_labels(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    labels: tuple[str, ...],
    problem: str,
    kept: bool,
) -> None:
    tuned = _classifier(tiny_bert(tmp_path / "base"), seed=1)
    with torch.no_grad():
        tuned.classifier.bias += 1
    with models.quiet():
        tuned.save_pretrained(tmp_path / "tuned")
    with caplog.at_level(logging.INFO, "tunefleet.tasks"):
        loaded = _classifier(tmp_path / "tuned", labels, seed=9, problem=problem)
    assert _same(tuned.bert, loaded.bert)
    assert bool(loaded.classifier.bias.all()) is kept
    assert ("the head is new, drawn from seed 9" in caplog.text) is not kept
    if not kept:
        base = _classifier(tmp_path / "base", labels, seed=9, problem=problem)
        assert _same(base.classifier, loaded.classifier)


def test_a_regression_head_is_kept(tmp_path: Path) -> None:
    tuned = _classifier(tiny_bert(tmp_path / "base"), (), problem="regression")
    with torch.no_grad():
        tuned.classifier.bias += 1
    with models.quiet():
        tuned.save_pretrained(tmp_path / "tuned")
    assert _classifier(tmp_path / "tuned", (), problem="regression").classifier.bias.all()


def test_a_missing_pooling_layer_is_drawn_from_the_seed(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "unpooled"))
    _drop(folder, "pooler")
    with caplog.at_level(logging.INFO, "tunefleet.tasks"):
        first, again = _classifier(folder, seed=3), _classifier(folder, seed=3)
    assert _same(first, again)
    assert not _same(first.bert.pooler, _classifier(folder, seed=4).bert.pooler)
    assert "pooler is not among the weights" in caplog.text


def _drop(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    left = {name: value for name, value in weights.items() if part not in name}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})


def _rewrite(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def _to_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _cut(folder: Path) -> None:
    body = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(body[: len(body) // 2])


def _own_code(folder: Path) -> None:
    _rewrite(folder, model_type="houseware", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('ran foreign code')")


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _config(text: str | None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "config.json").unlink()
        if text is not None:
            (folder / "config.json").write_text(text)

    return write


def _changed(**changes: object) -> Callable[[Path], None]:
    return lambda folder: _rewrite(folder, **changes)


def _without(part: str) -> Callable[[Path], None]:
    return lambda folder: _drop(folder, part)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle only": (_to_pickle, r"pickle files only \(pytorch_model.bin\).*\n.*save_pretrained"),
    "no weights": (_no_weights, "no weights"),
    "weights cut off": (_cut, "cannot be read"),
    "no config": (_config(None), "no config.json"),
    "a broken config": (_config("{"), "cannot be read"),
    "a list as config": (_config("[]"), "no JSON object"),
    "code of its own": (_own_code, "needs code of its own"),
    "an unknown type": (_changed(model_type="houseware"), "houseware"),
    "a model of images": (_changed(model_type="vit"), "'vit' cannot be used"),
    "weights of the body missing": (_without("layer.1.attention"), "are missing.*layer.1"),
    "weights of another shape": (_changed(vocab_size=77), "another shape"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_an_unusable_folder_is_refused_clearly(
    bert: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    damage(folder)
    with pytest.raises(ModelError, match=f"(?s){message}"):
        _classifier(folder)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        _classifier(tmp_path / "nowhere")


def test_trust_remote_code_is_refused(bert: Path) -> None:
    spec = ModelSpec(uri="model", trust_remote_code=True)
    with pytest.raises(ModelError, match="not run"):
        load_model(AutoModelForCausalLM, bert, spec, 0, head=None, lora_task="CAUSAL_LM")


def test_a_language_model_may_lack_nothing(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama")
    assert _same(_language_model(folder), _language_model(folder))
    _drop(folder, "lm_head")
    with pytest.raises(ModelError, match="lm_head"):
        _language_model(folder)


@pytest.mark.parametrize(
    "missing",
    [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)],
    ids=["no file of a tokenizer", "no vocabulary"],
)
def test_a_folder_without_a_tokenizer_is_refused(
    bert: Path, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(folder)


def test_quiet_puts_verbosity_and_bars_back() -> None:
    from transformers.utils import logging as transformers_logging

    hf: Any = transformers_logging
    before = (hf.get_verbosity(), hf.is_progress_bar_enabled())
    with models.quiet():
        assert not hf.is_progress_bar_enabled()
    assert (hf.get_verbosity(), hf.is_progress_bar_enabled()) == before


def test_gradient_checkpointing_leaves_gradients_as_they_are(bert: Path) -> None:
    batch = {"input_ids": torch.arange(5, 25).reshape(2, 10)}
    gradients = []
    for recompute in (False, True):
        model = _classifier(bert)
        if recompute:
            models.enable_gradient_checkpointing(model)
            assert model.is_activation_checkpointing
        model.train()
        torch.manual_seed(0)
        model(**batch).logits.sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_gradient_checkpointing_is_refused_where_a_model_cannot() -> None:
    with pytest.raises(ModelError, match=r"Linear cannot recompute(?s:.*)gradientCheckpointing"):
        models.enable_gradient_checkpointing(nn.Linear(1, 1))
