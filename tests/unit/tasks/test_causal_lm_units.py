from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_models import CHATML, SENTENCES, tiny_llama
from tests.unit.tasks.causal_cases import (
    CHATS,
    COLUMNS,
    LLAMA3,
    causal_lm_task,
    rows_of,
)
from tunefleet.api.errors import ModelError
from tunefleet.data.tokens import Encoded, Rows


def _texts(encoded: Encoded, tokenizer: Any) -> list[tuple[str, str]]:
    """Each unit's whole text and its supervised part."""
    found = []
    for a, b in pairwise(encoded.offsets):
        ids, marks = encoded.ragged["input_ids"][a:b], encoded.ragged["supervised"][a:b]
        found.append((tokenizer.decode(ids), tokenizer.decode(ids[marks == 1])))
    return found


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
    task = causal_lm_task(format="chat", supervise=supervise)
    tokenizer: Any = task.load_tokenizer(llama)
    encoded = task.encode(rows_of(COLUMNS["chat"]), tokenizer)
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
    task = causal_lm_task(format="instruction")
    tokenizer = task.load_tokenizer(llama)
    texts = _texts(task.encode(rows_of(COLUMNS["instruction"]), tokenizer), tokenizer)
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
    task = causal_lm_task(format="instruction")
    tokenizer = task.load_tokenizer(bare_llama)
    texts = _texts(task.encode(rows_of(COLUMNS["instruction"]), tokenizer), tokenizer)
    assert texts == [
        ("<s>be brief\n\nhellothere<|im_end|>", "there<|im_end|>"),
        ("<s>2+2=4<|im_end|>", "4<|im_end|>"),
    ]


def test_the_prompt_of_an_instruction_has_the_tokens_it_has_when_it_is_asked(
    bare_llama: Path,
) -> None:
    task = causal_lm_task(format="instruction")
    tokenizer = task.load_tokenizer(bare_llama)
    rows = rows_of({"prompt": ["wonder"], "completion": ["ful film"]})
    encoded = task.encode(rows, tokenizer)
    asked = tokenizer.encode("wonder")
    assert encoded.ragged["input_ids"][: len(asked)].tolist() == asked
    assert encoded.ragged["supervised"][: len(asked)].sum() == 0


def test_every_token_of_a_text_but_the_first_is_learned(bare_llama: Path) -> None:
    task = causal_lm_task(format="text")
    tokenizer = task.load_tokenizer(bare_llama)
    encoded = task.encode(rows_of(COLUMNS["text"]), tokenizer)
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
    task = causal_lm_task(format=shape)
    tokenizer = task.load_tokenizer(folder)
    encoded = task.encode(rows_of(COLUMNS[shape]), tokenizer)
    for unit in np.split(encoded.ragged["input_ids"], encoded.offsets[1:-1]):
        assert (unit == tokenizer.bos_token_id).sum() == expected
        assert unit[0] == tokenizer.bos_token_id or not expected


def test_a_text_that_brings_its_own_bos_gets_no_second_one(bare_llama: Path) -> None:
    task = causal_lm_task(format="text")
    tokenizer = task.load_tokenizer(bare_llama)
    encoded = task.encode(rows_of({"text": ["<s>a film"]}), tokenizer)
    assert encoded.ragged["input_ids"][:2].tolist().count(tokenizer.bos_token_id) == 1


def test_truncation_is_counted_and_keeps_something_to_learn(llama: Path) -> None:
    task, short = causal_lm_task(format="chat"), causal_lm_task(format="chat", max_length=22)
    tokenizer = task.load_tokenizer(llama)
    rows = rows_of({"messages": [CHATS[0]]})
    whole, cut = task.encode(rows, tokenizer), short.encode(rows, tokenizer)
    assert (whole.truncated, cut.truncated) == (0, 1)
    assert cut.offsets.tolist() == [0, 22]
    assert cut.ragged["input_ids"].tolist() == whole.ragged["input_ids"][:22].tolist()
    assert 0 < cut.weights[0] == cut.ragged["supervised"].sum() < whole.weights[0]


def _placed(columns: dict[str, list[Any]]) -> Rows:
    rows = rows_of(columns)
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
    task = causal_lm_task(format="chat")
    with pytest.raises(ValueError, match=r"chats\.jsonl:1: .*no assistant(?s:.*)chats\.jsonl:3: "):
        task.encode(rows, task.load_tokenizer(llama))


def test_rows_whose_answers_are_cut_off_are_named(llama: Path) -> None:
    long = [{"role": "user", "content": "why? " * 60}, CHATS[1][1]]
    task = causal_lm_task(format="chat", max_length=64)
    with pytest.raises(
        ValueError, match=r"chats\.jsonl:2: its answer begins after \d+ tokens, and maxLength is 64"
    ):
        task.encode(_placed({"messages": [CHATS[1], long]}), task.load_tokenizer(llama))


def test_many_bad_rows_are_told_in_part(llama: Path) -> None:
    task = causal_lm_task(format="chat")
    with pytest.raises(ValueError, match="and 15 more"):
        task.encode(rows_of({"messages": [CHATS[1][:1]] * 25}), task.load_tokenizer(llama))


def test_two_bos_tokens_are_refused(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "llama", chat_template="{{ bos_token }}" + LLAMA3)
    task = causal_lm_task(format="chat")
    with pytest.raises(ValueError, match="row 0: it begins with two BOS"):
        task.encode(rows_of(COLUMNS["chat"]), task.load_tokenizer(folder))


def test_the_template_of_the_job_replaces_the_models_and_is_saved(
    llama: Path, tmp_path: Path
) -> None:
    task = causal_lm_task(format="chat", chat_template=LLAMA3)
    tokenizer = task.load_tokenizer(llama)
    texts = _texts(task.encode(rows_of(COLUMNS["chat"]), tokenizer), tokenizer)
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
        causal_lm_task(**options).load_tokenizer({"bert": bert, "bare": bare_llama}[folder])
