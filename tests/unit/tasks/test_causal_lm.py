from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.tiny_models import CHATML, SENTENCES, tiny_bert, tiny_llama
from tunefleet.api.errors import ModelError
from tunefleet.api.job import LoraSpec, MethodSpec, ModelSpec
from tunefleet.api.tasks.causal_lm import TASK, CausalLmOptions
from tunefleet.data.batch import collate
from tunefleet.data.tokens import Encoded, Rows, TokenStore
from tunefleet.tasks import causal_lm, task_of
from tunefleet.tasks.batch import padding_of
from tunefleet.tasks.causal_lm import CausalLm
from tunefleet.tasks.contract import Batch, TaskContext
from tunefleet.tasks.models import quiet

SPEC = ModelSpec(uri="model")
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ANSWERS = ("fine, thank you", "four\n", "Paris.")
CHATS = [
    [
        {"role": "user", "content": "how are you?"},
        {"role": "assistant", "content": ANSWERS[0]},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": ANSWERS[1]},
    ],
    [{"role": "user", "content": "France?"}, {"role": "assistant", "content": ANSWERS[2]}],
]
COLUMNS: dict[str, dict[str, list[Any]]] = {
    "chat": {"messages": CHATS},
    "instruction": {
        "prompt": ["hello", "2+2="],
        "completion": ["there", "4"],
        "system": ["be brief", ""],
    },
    "text": {"text": list(SENTENCES[:2])},
}


def _task(max_length: int = 96, **options: Any) -> CausalLm:
    task = task_of("causal-lm", TaskContext(CausalLmOptions(**options), (), max_length))
    assert isinstance(task, CausalLm)
    return task


def _rows(columns: dict[str, list[Any]]) -> Rows:
    return Rows(columns=columns, ids=np.arange(len(next(iter(columns.values()))), dtype=np.int64))


def _texts(encoded: Encoded, tokenizer: Any) -> list[tuple[str, str]]:
    """Each unit's whole text and its supervised part."""
    found = []
    for a, b in pairwise(encoded.offsets):
        ids, marks = encoded.ragged["input_ids"][a:b], encoded.ragged["supervised"][a:b]
        found.append((tokenizer.decode(ids), tokenizer.decode(ids[marks == 1])))
    return found


def _batch(task: CausalLm, folder: Path, rows: Rows, store: Path) -> Batch:
    tokenizer = task.load_tokenizer(folder)
    written = TokenStore.write(store, task.encode(rows, tokenizer), padding_of(tokenizer))
    return collate(written, np.arange(len(rows)))


@pytest.mark.parametrize(
    ("supervise", "learned"),
    [
        ("all-turns", ["fine, thank you<|im_end|>four\n<|im_end|>", "Paris.<|im_end|>"]),
        ("last-turn", ["four\n<|im_end|>", "Paris.<|im_end|>"]),
    ],
)
def test_labels_of_a_chat_decode_to_the_answers_and_their_end_of_turn(
    llama: Path, supervise: str, learned: list[str]
) -> None:
    task = _task(format="chat", supervise=supervise)
    tokenizer: Any = task.load_tokenizer(llama)
    encoded = task.encode(_rows(COLUMNS["chat"]), tokenizer)
    texts = _texts(encoded, tokenizer)
    assert [marked for _, marked in texts] == learned
    for chat, (whole, _) in zip(CHATS, texts, strict=True):
        rendered = tokenizer.apply_chat_template(chat, tokenize=False)
        assert whole == rendered.rstrip("\n")
    assert encoded.ragged["input_ids"].dtype == encoded.ragged["supervised"].dtype == np.int32
    assert set(encoded.ragged["supervised"]) == {0, 1}
    sums = np.add.reduceat(encoded.ragged["supervised"], encoded.offsets[:-1])
    assert encoded.weights.tolist() == sums.tolist()


def test_an_instruction_is_put_into_the_chat_template(llama: Path) -> None:
    task = _task(format="instruction")
    tokenizer = task.load_tokenizer(llama)
    texts = _texts(task.encode(_rows(COLUMNS["instruction"]), tokenizer), tokenizer)
    assert texts == [
        (
            "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
            "<|im_start|>assistant\nthere<|im_end|>",
            "there<|im_end|>",
        ),
        (
            "<|im_start|>user\n2+2=<|im_end|>\n<|im_start|>assistant\n4<|im_end|>",
            "4<|im_end|>",
        ),
    ]


def test_an_instruction_without_a_template_is_joined_and_ended(bare_llama: Path) -> None:
    task = _task(format="instruction")
    tokenizer = task.load_tokenizer(bare_llama)
    texts = _texts(task.encode(_rows(COLUMNS["instruction"]), tokenizer), tokenizer)
    assert texts == [
        ("<s>be brief\n\nhellothere<|im_end|>", "there<|im_end|>"),
        ("<s>2+2=4<|im_end|>", "4<|im_end|>"),
    ]


def test_the_prompt_of_an_instruction_has_the_tokens_it_has_when_it_is_asked(
    bare_llama: Path,
) -> None:
    task = _task(format="instruction")
    tokenizer = task.load_tokenizer(bare_llama)
    rows = _rows({"prompt": ["wonder"], "completion": ["ful film"]})
    encoded = task.encode(rows, tokenizer)
    asked = tokenizer.encode("wonder")
    assert encoded.ragged["input_ids"][: len(asked)].tolist() == asked
    assert encoded.ragged["supervised"][: len(asked)].sum() == 0


def test_every_token_of_a_text_but_the_first_is_learned(bare_llama: Path) -> None:
    task = _task(format="text")
    tokenizer = task.load_tokenizer(bare_llama)
    encoded = task.encode(_rows(COLUMNS["text"]), tokenizer)
    assert [whole for whole, _ in _texts(encoded, tokenizer)] == [
        f"<s>{text}<|im_end|>" for text in SENTENCES[:2]
    ]
    assert encoded.weights.tolist() == (np.diff(encoded.offsets) - 1).tolist()


@pytest.mark.parametrize(
    ("template", "shape", "expected"),
    [
        (LLAMA3, "chat", 1),
        (LLAMA3, "instruction", 1),
        (CHATML, "chat", 0),
        (None, "instruction", 1),
        (None, "text", 1),
    ],
    ids=[
        "a chat whose template writes BOS",
        "an instruction whose template writes BOS",
        "a chat whose template writes none",
        "an instruction without a template",
        "a text",
    ],
)
def test_bos_is_written_once_or_as_the_template_has_it(
    tmp_path: Path, template: str | None, shape: str, expected: int
) -> None:
    folder = tiny_llama(tmp_path / "llama", chat_template=template)
    task = _task(format=shape)
    tokenizer = task.load_tokenizer(folder)
    encoded = task.encode(_rows(COLUMNS[shape]), tokenizer)
    for unit in np.split(encoded.ragged["input_ids"], encoded.offsets[1:-1]):
        assert (unit == tokenizer.bos_token_id).sum() == expected
        assert unit[0] == tokenizer.bos_token_id or not expected


def test_a_text_that_brings_its_own_bos_gets_no_second_one(bare_llama: Path) -> None:
    task = _task(format="text")
    tokenizer = task.load_tokenizer(bare_llama)
    encoded = task.encode(_rows({"text": ["<s>a film"]}), tokenizer)
    assert encoded.ragged["input_ids"][:2].tolist().count(tokenizer.bos_token_id) == 1


def test_truncation_is_counted_and_keeps_something_to_learn(llama: Path) -> None:
    task, short = _task(format="chat"), _task(format="chat", max_length=22)
    tokenizer = task.load_tokenizer(llama)
    rows = _rows({"messages": [CHATS[0]]})
    whole, cut = task.encode(rows, tokenizer), short.encode(rows, tokenizer)
    assert (whole.truncated, cut.truncated) == (0, 1)
    assert cut.offsets.tolist() == [0, 22]
    assert cut.ragged["input_ids"].tolist() == whole.ragged["input_ids"][:22].tolist()
    assert 0 < cut.weights[0] == cut.ragged["supervised"].sum() < whole.weights[0]


def _placed(columns: dict[str, list[Any]]) -> Rows:
    rows = _rows(columns)
    count = len(rows)
    return Rows(
        columns=columns,
        ids=rows.ids,
        files=("chats.jsonl",),
        file_of=np.zeros(count, np.int32),
        lines=np.arange(1, count + 1),
    )


def test_rows_without_an_answer_are_named_all_at_once(llama: Path) -> None:
    asked = CHATS[1][:1]
    rows = _placed({"messages": [asked, CHATS[1], asked]})
    task = _task(format="chat")
    with pytest.raises(ValueError, match=r"chats\.jsonl:1: .*no assistant(?s:.*)chats\.jsonl:3: "):
        task.encode(rows, task.load_tokenizer(llama))


def test_rows_whose_answers_are_cut_off_are_named(llama: Path) -> None:
    long = [{"role": "user", "content": "why? " * 60}, CHATS[1][1]]
    task = _task(format="chat", max_length=64)
    with pytest.raises(
        ValueError, match=r"chats\.jsonl:2: its answer begins after \d+ tokens, and maxLength is 64"
    ):
        task.encode(_placed({"messages": [CHATS[1], long]}), task.load_tokenizer(llama))


def test_many_bad_rows_are_told_in_part(llama: Path) -> None:
    task = _task(format="chat")
    with pytest.raises(ValueError, match="and 15 more"):
        task.encode(_rows({"messages": [CHATS[1][:1]] * 25}), task.load_tokenizer(llama))


def test_two_bos_tokens_are_refused(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama", chat_template="{{ bos_token }}" + LLAMA3)
    task = _task(format="chat")
    with pytest.raises(ValueError, match="row 0: it begins with two BOS"):
        task.encode(_rows(COLUMNS["chat"]), task.load_tokenizer(folder))


def test_the_template_of_the_job_replaces_the_models_and_is_saved(
    llama: Path, tmp_path: Path
) -> None:
    task = _task(format="chat", chat_template=LLAMA3)
    tokenizer = task.load_tokenizer(llama)
    texts = _texts(task.encode(_rows(COLUMNS["chat"]), tokenizer), tokenizer)
    assert texts[1][1] == "Paris.<|eot_id|>"
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == LLAMA3


@pytest.mark.parametrize(
    ("options", "folder", "message"),
    [
        ({"format": "chat"}, "bare", "no chat template"),
        (
            {"format": "chat", "chat_template": "{% for %}"},
            "bare",
            "causalLm.chatTemplate: the chat template has a mistake",
        ),
        ({"format": "text"}, "bert", "no end token"),
    ],
    ids=["a chat without a template", "a broken template", "a tokenizer without an end token"],
)
def test_an_unusable_tokenizer_is_refused(
    bert: Path, bare_llama: Path, options: dict[str, Any], folder: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        _task(**options).load_tokenizer({"bert": bert, "bare": bare_llama}[folder])


def _tiny_gpt2(folder: Path, llama: Path) -> Path:
    """A model whose positions are absolute and whose head is tied, with the Llama's tokenizer."""
    shutil.copytree(llama, folder, ignore=shutil.ignore_patterns("model*", "*config.json"))
    shutil.copy(llama / "tokenizer_config.json", folder)
    with quiet():
        GPT2LMHeadModel(
            GPT2Config(
                vocab_size=500,
                n_embd=16,
                n_layer=1,
                n_head=2,
                n_positions=128,
                bos_token_id=0,
                eos_token_id=4,
            )
        ).save_pretrained(folder)
    return folder


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
    folder = llama if kind == "llama" else _tiny_gpt2(tmp_path / "gpt2", llama)
    task = _task(format=shape)
    model: Any = task.load_model(folder, SPEC, 1).double().eval()
    rows = _rows(COLUMNS[shape])
    encoded = task.encode(rows, task.load_tokenizer(folder))
    expected = _naive_losses(model, encoded)
    torch.stack(expected).sum().backward()
    reference = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = _batch(task, folder, rows, tmp_path / "store")
    loss = task.loss(model, batch)
    loss.backward()
    torch.testing.assert_close(loss, torch.stack(expected).sum(), rtol=1e-10, atol=1e-10)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    torch.testing.assert_close(gradients, reference, rtol=1e-8, atol=1e-10)
    scores = task.score(model, batch)
    np.testing.assert_allclose(scores["loss"], [e.item() for e in expected], rtol=1e-6)
    assert scores["tokens"].tolist() == encoded.weights.tolist()


def test_what_stands_in_the_padding_has_no_effect(llama: Path, tmp_path: Path) -> None:
    task = _task(format="chat")
    model = task.load_model(llama, SPEC, 1).eval()
    batch = _batch(task, llama, _rows(COLUMNS["chat"]), tmp_path / "store")
    loss = task.loss(model, batch)
    padding = batch["attention_mask"] == 0
    assert padding.any()
    batch["input_ids"][padding] = 77
    torch.testing.assert_close(task.loss(model, batch), loss)


def test_outputs_are_the_log_probabilities_of_the_labels(llama: Path, tmp_path: Path) -> None:
    task = _task(format="chat")
    model = task.load_model(llama, SPEC, 1)
    batch = _batch(task, llama, _rows(COLUMNS["chat"]), tmp_path / "store")
    outputs = task.outputs(model, batch)["log_probabilities"]
    scores = task.score(model, batch)
    assert outputs.dtype == np.float32
    assert outputs.shape == (2, scores["tokens"].max())
    assert ((outputs < 0).sum(axis=1) == scores["tokens"]).all()
    np.testing.assert_allclose(-outputs.sum(axis=1), scores["loss"], rtol=1e-5)


def test_scores_give_every_declared_metric(llama: Path, tmp_path: Path) -> None:
    task = _task(format="chat")
    model: Any = task.load_model(llama, SPEC, 1)
    batch = _batch(task, llama, _rows(COLUMNS["chat"]), tmp_path / "store")
    model.train()
    scores = task.score(model, batch)
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
        (task.loss(model, batch) / batch["weights"].sum()).backward()
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
    folder = llama if base == "llama" else _tiny_gpt2(tmp_path / "gpt2", llama)
    task = _task(format=shape, max_new_tokens=20)
    model = task.load_model(folder, SPEC, 1)
    _overfit(task, model, _batch(task, folder, _rows(COLUMNS[shape]), tmp_path / "store"), 120)
    expected = ANSWERS[1:] if shape == "chat" else COLUMNS[shape]["completion"]
    tokenizer = task.load_tokenizer(folder)
    told = [{"text": text, "finish": "stop"} for text in expected]
    assert task.predict(model, tokenizer, ITEMS[shape]) == told
    alone = [task.predict(model, tokenizer, [item])[0] for item in ITEMS[shape]]
    assert alone == told


def test_an_adapted_model_answers_too(llama: Path, tmp_path: Path) -> None:
    task = _task(format="chat", max_new_tokens=20)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"]
    lora = LoraSpec(rank=16, alpha=32.0, target_modules=names)
    spec = ModelSpec(uri="model", method=MethodSpec(type="lora", lora=lora))
    model = task.load_model(llama, spec, 1)
    batch = _batch(task, llama, _rows(COLUMNS["chat"]), tmp_path / "store")
    before = task.score(model, batch)["loss"].sum()
    _overfit(task, model, batch, 40)
    assert task.score(model, batch)["loss"].sum() < 0.9 * before
    assert len(task.predict(model, task.load_tokenizer(llama), ITEMS["chat"])) == 2


def test_an_answer_ends_at_the_limit(bare_llama: Path) -> None:
    task = _task(format="text", max_new_tokens=3)
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
    good = {"chat": {"messages": [USER]}, "instruction": {"prompt": "hi"}, "text": {"text": "hi"}}
    task = _task(format=shape, max_new_tokens=1)
    model, tokenizer = task.load_model(llama, SPEC, 1), task.load_tokenizer(llama)
    with pytest.raises(ValueError, match=message):
        task.predict(model, tokenizer, [good[shape], item])


def test_a_saved_model_stops_at_the_end_of_turn_of_its_template(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama", chat_template=LLAMA3, eos_token="</s>")
    generation = json.loads((folder / "generation_config.json").read_text())
    changed = generation | {"temperature": 0.6, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(changed))
    task = _task(format="chat")
    model: Any = task.load_model(folder, SPEC, 1)
    tokenizer = task.load_tokenizer(folder)
    ends = sorted(tokenizer.convert_tokens_to_ids(["</s>", "<|eot_id|>"]))
    with quiet():
        model.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert again.generation_config.eos_token_id == ends
    assert again.generation_config.pad_token_id == tokenizer.eos_token_id


def test_a_model_that_reads_both_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bert model does not write from left to right"):
        _task().load_model(tiny_bert(tmp_path), SPEC, 1)
