from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny_models import tiny_bert, tiny_llama
from tests.unit.tasks.causal_cases import (
    ANSWERS,
    CHATS,
    COLUMNS,
    LLAMA3,
    SPEC,
    batch_of,
    causal_lm_task,
    rows_of,
    tiny_gpt2,
)
from tunefleet.api.errors import ModelError
from tunefleet.api.job import LoraSpec, MethodSpec, ModelSpec
from tunefleet.api.tasks.causal_lm import TASK
from tunefleet.data.tokens import Encoded
from tunefleet.tasks import causal_lm
from tunefleet.tasks.causal_lm import CausalLm
from tunefleet.tasks.contract import Batch
from tunefleet.tasks.models import quiet


def _naive_losses(model: Any, encoded: Encoded) -> list[torch.Tensor]:
    """Per unit, summed over supervised tokens, one unit at a time, without padding."""
    found = []
    for a, b in pairwise(encoded.offsets):
        ids = torch.from_numpy(encoded.ragged["input_ids"][a:b].astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0]
        total = torch.zeros((), dtype=logits.dtype)
        for place in range(1, b - a):
            if encoded.ragged["supervised"][a + place]:
                total = total - torch.log_softmax(logits[place - 1], dim=-1)[ids[place]]
        found.append(total)
    return found


@pytest.mark.parametrize("pieces", [1, 1 << 24], ids=["position by position", "at once"])
@pytest.mark.parametrize("keeps", [True, False], ids=["some logits", "all logits"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("shape", ["chat", "instruction", "text"])
def test_loss_and_gradient_are_those_of_a_naive_reference(
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    kind: str,
    keeps: bool,
    pieces: int,
) -> None:
    monkeypatch.setattr("tunefleet.tasks.losses._PIECE_VALUES", pieces)
    if not keeps:
        monkeypatch.setattr(causal_lm, "_keeps_logits", lambda model: False)
    folder = llama if kind == "llama" else tiny_gpt2(tmp_path / "gpt2", llama)
    task = causal_lm_task(format=shape)
    model: Any = task.load_model(folder, SPEC, 1).double().eval()
    rows = rows_of(COLUMNS[shape])
    encoded = task.encode(rows, task.load_tokenizer(folder))
    expected = _naive_losses(model, encoded)
    torch.autograd.backward(torch.stack(expected).sum())
    reference = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = batch_of(task, folder, rows, tmp_path / "store")
    loss = task.loss(model, batch)
    torch.autograd.backward(loss)
    torch.testing.assert_close(loss, torch.stack(expected).sum(), rtol=1e-10, atol=1e-10)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    torch.testing.assert_close(gradients, reference, rtol=1e-8, atol=1e-10)
    scores: dict[str, Any] = {**task.score(model, batch)}
    np.testing.assert_allclose(scores["loss"], np.array([e.item() for e in expected]), rtol=1e-6)
    assert scores["tokens"].tolist() == encoded.weights.tolist()


def test_what_stands_in_the_padding_has_no_effect(llama: Path, tmp_path: Path) -> None:
    task = causal_lm_task(format="chat")
    model = task.load_model(llama, SPEC, 1).eval()
    batch = batch_of(task, llama, rows_of(COLUMNS["chat"]), tmp_path / "store")
    loss = task.loss(model, batch)
    padding = batch["attention_mask"] == 0
    assert padding.any()
    batch["input_ids"][padding] = 77
    torch.testing.assert_close(task.loss(model, batch), loss)


def test_outputs_are_the_log_probabilities_of_the_labels(llama: Path, tmp_path: Path) -> None:
    task = causal_lm_task(format="chat")
    model = task.load_model(llama, SPEC, 1)
    batch = batch_of(task, llama, rows_of(COLUMNS["chat"]), tmp_path / "store")
    outputs: Any = task.outputs(model, batch)["log_probabilities"]
    scores: dict[str, Any] = {**task.score(model, batch)}
    assert outputs.dtype == np.float32
    assert outputs.shape == (2, scores["tokens"].max())
    assert ((outputs < 0).sum(axis=1) == scores["tokens"]).all()
    np.testing.assert_allclose(-outputs.sum(axis=1), scores["loss"], rtol=1e-5)


def test_scores_give_every_declared_metric(llama: Path, tmp_path: Path) -> None:
    task = causal_lm_task(format="chat")
    model: Any = task.load_model(llama, SPEC, 1)
    batch = batch_of(task, llama, rows_of(COLUMNS["chat"]), tmp_path / "store")
    model.train()
    scores: dict[str, Any] = {**task.score(model, batch)}
    assert model.training
    assert {n: v.dtype.str[1:] for n, v in scores.items()} == {
        "loss": "f4",
        "tokens": "i4",
        "correct": "i4",
    }
    found = task.metrics(scores)
    assert list(found) == [metric.name for metric in TASK.metrics(task.options)]
    assert found["perplexity"] == pytest.approx(500, rel=0.5)


def _overfit(task: CausalLm, model: torch.nn.Module, batch: Batch, steps: int) -> None:
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model, batch) / batch["weights"].sum())
        optimizer.step()


ITEMS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"messages": CHATS[0][:3]}, {"messages": CHATS[1][:1]}],
    "instruction": [{"prompt": "hello", "system": "be brief"}, {"prompt": "2+2="}],
}


@pytest.mark.parametrize("base", ["llama", "gpt2"])
@pytest.mark.parametrize("shape", ["chat", "instruction"])
def test_a_model_taught_by_heart_says_its_answers_and_stops(
    llama: Path, tmp_path: Path, shape: str, base: str
) -> None:
    folder = llama if base == "llama" else tiny_gpt2(tmp_path / "gpt2", llama)
    task = causal_lm_task(format=shape, max_new_tokens=20)
    model = task.load_model(folder, SPEC, 1)
    _overfit(task, model, batch_of(task, folder, rows_of(COLUMNS[shape]), tmp_path / "store"), 120)
    expected = ANSWERS[1:] if shape == "chat" else COLUMNS[shape]["completion"]
    tokenizer = task.load_tokenizer(folder)
    told = [{"text": text, "finish": "stop"} for text in expected]
    assert task.predict(model, tokenizer, ITEMS[shape]) == told
    alone = [task.predict(model, tokenizer, [item])[0] for item in ITEMS[shape]]
    assert alone == told


def test_an_adapted_model_answers_too(llama: Path, tmp_path: Path) -> None:
    task = causal_lm_task(format="chat", max_new_tokens=20)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"]
    lora = LoraSpec(rank=16, alpha=32.0, target_modules=names)
    spec = ModelSpec(uri="model", method=MethodSpec(type="lora", lora=lora))
    model = task.load_model(llama, spec, 1)
    batch = batch_of(task, llama, rows_of(COLUMNS["chat"]), tmp_path / "store")
    before = task.score(model, batch)["loss"].sum()
    _overfit(task, model, batch, 40)
    assert task.score(model, batch)["loss"].sum() < 0.9 * before
    assert len(task.predict(model, task.load_tokenizer(llama), ITEMS["chat"])) == 2


def test_an_answer_ends_at_the_limit(bare_llama: Path) -> None:
    task = causal_lm_task(format="text", max_new_tokens=3)
    model, tokenizer = task.load_model(bare_llama, SPEC, 1), task.load_tokenizer(bare_llama)
    (answer,) = task.predict(model, tokenizer, [{"text": "a film"}])
    assert answer["finish"] == "length"
    assert task.predict(model, tokenizer, []) == []


USER = {"role": "user", "content": "hi"}
LONG = {"role": "user", "content": "why? " * 300}


@pytest.mark.parametrize(
    ("shape", "item", "message"),
    [
        ("chat", {}, "item 1: messages is missing"),
        ("chat", {"messages": "hi"}, "item 1: messages is missing or no list"),
        ("chat", {"messages": [{"role": "user"}]}, r"item 1: messages\[0\] needs"),
        ("chat", {"messages": CHATS[1]}, "item 1: messages ends with an answer"),
        ("chat", {"messages": [USER], "prompt": "x"}, "item 1: prompt is not read"),
        (
            "chat",
            {"messages": [{"role": "user", "content": "why? " * 300}]},
            "item 1: messages has",
        ),
        ("instruction", {"system": "x"}, "item 1: prompt is missing"),
        ("instruction", {"prompt": "x", "system": 3}, "item 1: system is int"),
        ("text", {"text": None}, "item 1: text is missing"),
    ],
    ids=[
        "no messages",
        "a text for messages",
        "a turn without content",
        "an answer at the end",
        "a field that nothing reads",
        "more than the model reads",
        "no prompt",
        "a number for a system message",
        "no text",
    ],
)
def test_an_item_that_cannot_be_read_is_named(
    llama: Path, shape: str, item: dict[str, object], message: str
) -> None:
    good: dict[str, dict[str, object]] = {
        "chat": {"messages": [USER]},
        "instruction": {"prompt": "hi"},
        "text": {"text": "hi"},
    }
    task = causal_lm_task(format=shape, max_new_tokens=1)
    model, tokenizer = task.load_model(llama, SPEC, 1), task.load_tokenizer(llama)
    with pytest.raises(ValueError, match=message):
        task.predict(model, tokenizer, [good[shape], item])


def test_a_saved_model_stops_at_the_end_of_turn_of_its_template(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama", chat_template=LLAMA3, eos_token="</s>")
    generation = json.loads((folder / "generation_config.json").read_text())
    changed = generation | {"temperature": 0.6, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(changed))
    task = causal_lm_task(format="chat")
    model: Any = task.load_model(folder, SPEC, 1)
    tokenizer = task.load_tokenizer(folder)
    ends: Any = tokenizer.convert_tokens_to_ids(["</s>", "<|eot_id|>"])
    with quiet():
        model.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert again.generation_config.eos_token_id == sorted(ends)
    assert again.generation_config.pad_token_id == tokenizer.eos_token_id


def test_a_model_that_reads_both_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bert model does not write from left to right"):
        causal_lm_task().load_model(tiny_bert(tmp_path), SPEC, 1)
