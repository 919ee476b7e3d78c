"""Chats, instructions and texts that the tests of causal-lm share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel

from tests.tiny_models import SENTENCES
from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks.causal_lm import CausalLmOptions
from tunefleet.data.batch import collate
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.tasks import task_of
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


def causal_lm_task(max_length: int = 96, **options: Any) -> CausalLm:
    task = task_of("causal-lm", TaskContext(CausalLmOptions(**options), (), max_length))
    assert isinstance(task, CausalLm)
    return task


def rows_of(columns: dict[str, list[Any]]) -> Rows:
    return Rows(columns=columns, ids=np.arange(len(next(iter(columns.values()))), dtype=np.int64))


def batch_of(task: CausalLm, folder: Path, rows: Rows, store: Path) -> Batch:
    tokenizer = task.load_tokenizer(folder)
    written = TokenStore.write(store, task.encode(rows, tokenizer), padding_of(tokenizer))
    return collate(written, np.arange(len(rows)))


def tiny_gpt2(folder: Path, llama: Path) -> Path:
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
