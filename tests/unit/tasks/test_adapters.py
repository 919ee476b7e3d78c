from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from tunefleet.api.errors import ModelError
from tunefleet.api.job import LoraSpec, MethodSpec, ModelSpec
from tunefleet.tasks.adapters import apply_adapter
from tunefleet.tasks.models import Head, load_model, merge_adapter, quiet

IDS = torch.arange(5, 25).reshape(2, 10)


def _spec(**lora: Any) -> ModelSpec:
    return ModelSpec(uri="model", method=MethodSpec(type="lora", lora=LoraSpec(**lora)))


def _classifier(folder: Path, seed: int = 1, **lora: Any) -> Any:
    head = Head(("no", "yes"), "single_label_classification")
    auto = AutoModelForSequenceClassification
    return load_model(auto, folder, _spec(**lora), seed, head=head, lora_task="SEQ_CLS")


def _language_model(folder: Path, **lora: Any) -> Any:
    auto = AutoModelForCausalLM
    return load_model(auto, folder, _spec(**lora), 1, head=None, lora_task="CAUSAL_LM")


def _adapted(model: nn.Module, kind: Literal["full", "lora", "qlora"]) -> nn.Module:
    method = MethodSpec(type=kind)
    return apply_adapter(model, method, task="FEATURE_EXTRACTION", trained_in_full=[], declared={})


def _trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_adapters_and_head_are_trained_and_nothing_else(bert: Path) -> None:
    trained = _trained(_classifier(bert, rank=4))
    parts = {name.split(".layer.")[-1].split(".", 1)[-1] for name in trained if "lora" in name}
    assert parts == {
        f"attention.self.{layer}.lora_{side}.default.weight"
        for layer in ("query", "value")
        for side in "AB"
    }
    assert {name for name in trained if "lora" not in name} == {
        "base_model.model.classifier.modules_to_save.default.weight",
        "base_model.model.classifier.modules_to_save.default.bias",
    }


def test_a_language_model_trains_adapters_alone(llama: Path) -> None:
    assert all("lora_" in name for name in _trained(_language_model(llama)))


def test_a_pooling_layer_drawn_from_the_seed_is_trained_too(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "unpooled"))
    weights = load_file(folder / "model.safetensors")
    left = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    assert any("pooler" in name for name in _trained(_classifier(folder)))
    assert not any("pooler" in name for name in _trained(_classifier(bert)))


def test_rank_alpha_dropout_and_targets_are_those_of_the_job(bert: Path) -> None:
    model = _classifier(bert, rank=3, alpha=6.0, dropout=0.25, target_modules=["key"])
    layer = model.base_model.model.bert.encoder.layer[0].attention.self
    assert layer.key.lora_A["default"].weight.shape == (3, 32)
    assert layer.key.scaling["default"] == 2.0
    assert layer.key.lora_dropout["default"].p == 0.25
    assert not hasattr(layer.query, "lora_A")


def test_adapters_are_a_function_of_the_seed(bert: Path) -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        return {n: p for n, p in _classifier(bert, seed).named_parameters() if "lora_A" in n}

    torch.testing.assert_close(drawn(1), drawn(1), rtol=0, atol=0)
    assert not any(torch.equal(value, drawn(2)[name]) for name, value in drawn(1).items())


@pytest.mark.parametrize("kind", ["classifier", "language model"])
def test_the_merged_model_is_plain_and_answers_as_the_adapted_one(
    bert: Path, llama: Path, kind: str, tmp_path: Path
) -> None:
    model = _classifier(bert) if kind == "classifier" else _language_model(llama)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert "lora" in name or "classifier" in name
                generator = torch.Generator().manual_seed(len(name))
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        model.eval()
        adapted = model(input_ids=IDS).logits
        merged: Any = merge_adapter(model)
        torch.testing.assert_close(merged(input_ids=IDS).logits, adapted)
        assert not any("lora" in name or "modules_to_save" in name for name in merged.state_dict())
        with quiet():
            merged.save_pretrained(tmp_path / "merged")
            again = type(merged).from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(again(input_ids=IDS).logits, adapted)


def test_a_model_without_adapter_is_merged_as_it_is() -> None:
    model = nn.Linear(2, 2)
    assert merge_adapter(model) is model
    assert _adapted(model, "full") is model


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["queri"], "no layer is called queri(?s:.*)query"),
        (["query", "nothing"], "no layer is called nothing"),
    ],
    ids=["none of them exists", "one of them does not exist"],
)
def test_targets_that_do_not_exist_are_refused(bert: Path, names: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _classifier(bert, target_modules=names)


def _tiny_gpt2(folder: Path) -> Path:
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
    with quiet():
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_gpt2s_transposed_layers_get_adapters(tmp_path: Path) -> None:
    model = _language_model(_tiny_gpt2(tmp_path))
    assert model.base_model.model.transformer.h[0].attn.c_attn.fan_in_fan_out
    model(input_ids=IDS).logits.sum().backward()
    merge_adapter(model)


@pytest.mark.parametrize("name", ["wte", "lm_head"])
def test_an_adapter_on_tied_weights_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="shares its weights"):
        _language_model(_tiny_gpt2(tmp_path), target_modules=[name])


def test_targets_of_a_type_unknown_to_peft_are_its_attention_layers() -> None:
    model: Any = nn.ModuleDict({"q_lin": nn.Linear(4, 4), "v_lin": nn.Linear(4, 4)})
    model.config = type("Config", (), {"model_type": "unheard-of"})()
    names = _trained(_adapted(_Wrapped(model), "lora"))
    assert {name.split(".")[-4] for name in names if "lora_A" in name} == {"q_lin", "v_lin"}


def test_a_task_may_name_the_targets_of_a_type(bert: Path) -> None:
    head = Head(("no", "yes"), "single_label_classification")
    model = load_model(
        AutoModelForSequenceClassification,
        bert,
        _spec(),
        1,
        head=head,
        lora_task="SEQ_CLS",
        lora_targets={"bert": ["dense"]},
    )
    assert all(".dense." in name for name in _trained(model) if "lora" in name)


def test_unknown_layers_are_refused_with_those_that_exist() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2))
    model.config = type("Config", (), {"model_type": "unheard-of"})()
    with pytest.raises(ModelError, match=r"unheard-of(?s:.*)layers are 0"):
        _adapted(model, "lora")


def test_quantised_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="quantised"):
        _adapted(nn.Linear(1, 1), "qlora")


class _Wrapped(nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config
