"""What the model will see: tokens, padding, supervision, and the answer in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import tiny_bert, tiny_llama
from tunefleet.api.tasks import Column, declaration_of
from tunefleet.data.preview import previews
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.tasks import task_of
from tunefleet.tasks.batch import padding_of
from tunefleet.tasks.contract import TaskContext


def rows_of(columns: dict[str, list[object]]) -> Rows:
    count = len(next(iter(columns.values())))
    return Rows(
        columns=columns,
        ids=np.arange(10, 10 + count, dtype=np.int64),
        files=("r.csv",),
        file_of=np.zeros(count, np.int32),
        lines=np.arange(2, 2 + count, dtype=np.int64),
    )


def test_a_pair_with_its_padding_segments_and_label(tmp_path: Path) -> None:
    task_name = "text-classification"
    options = declaration_of(task_name).options()
    task = task_of(task_name, TaskContext(options, ("bad", "good"), 64))
    tokenizer = task.load_tokenizer(tiny_bert(tmp_path / "bert"))
    rows = rows_of(
        {
            "text": ["a wonderful film", "dull"],
            "textPair": ["warm and funny", "slow"],
            "label": [1, 0],
        }
    )
    store = TokenStore.write(tmp_path / "s", task.encode(rows, tokenizer), padding_of(tokenizer))
    columns = declaration_of(task_name).columns(options)
    seen = previews(store, rows, tokenizer, columns, ("bad", "good"), count=5, seed=1)
    assert [(p.place, p.answer, p.weight) for p in seen] == [
        ("r.csv:2", "good", 1),
        ("r.csv:3", "bad", 1),
    ]
    for unit, preview in enumerate(seen):
        ids = store.ragged["input_ids"][store.offsets[unit] : store.offsets[unit + 1]]
        real = [token for token in preview.tokens if token.attended]
        assert [token.id for token in real] == ids.tolist()
        assert real[0].text == "[CLS]"
        assert [t.text for t in real if t.special] == ["[CLS]", "[SEP]", "[SEP]"]
        assert {t.segment for t in real} == {0, 1}
        assert not any(t.supervised for t in preview.tokens)
    assert len({len(p.tokens) for p in seen}) == 1, "padded together"
    padding = [t for t in seen[1].tokens if not t.attended]
    assert padding
    assert {(t.text, t.segment) for t in padding} == {("[PAD]", 0)}


def test_a_completion_is_what_carries_loss(tmp_path: Path) -> None:
    options = declaration_of("causal-lm").options()
    task = task_of("causal-lm", TaskContext(options, (), 64))
    tokenizer = task.load_tokenizer(tiny_llama(tmp_path / "llama"))
    rows = rows_of({"prompt": ["hello there"], "completion": ["I am fine"]})
    store = TokenStore.write(tmp_path / "s", task.encode(rows, tokenizer), padding_of(tokenizer))
    columns = declaration_of("causal-lm").columns(options)
    (seen,) = previews(store, rows, tokenizer, columns, (), count=1, seed=1)
    learned = "".join(token.text for token in seen.tokens if token.supervised)
    given = "".join(token.text for token in seen.tokens if not token.supervised)
    assert "I am fine" in learned
    assert "hello there" in given
    assert "hello" not in learned
    assert seen.answer == ""
    assert seen.weight == sum(token.supervised for token in seen.tokens)


@pytest.mark.parametrize(
    ("kind", "cell", "answer"),
    [
        pytest.param("labels", [0, 2], "a, c", id="several labels"),
        pytest.param("labels", [], "no label", id="no label"),
        pytest.param("number", 2.5, "2.5", id="a number"),
    ],
)
def test_an_answer_in_words(tmp_path: Path, kind: str, cell: object, answer: str) -> None:
    task_name = "text-classification"
    options = declaration_of(task_name).options()
    task = task_of(task_name, TaskContext(options, ("a", "b", "c"), 64))
    tokenizer = task.load_tokenizer(tiny_bert(tmp_path / "bert"))
    shown = rows_of({"text": ["a film"], "label": [cell]})
    encoded = task.encode(rows_of({"text": ["a film"], "label": [0]}), tokenizer)
    store = TokenStore.write(tmp_path / "s", encoded, padding_of(tokenizer))
    column = Column("label", "labels" if kind == "labels" else "number")
    (seen,) = previews(store, shown, tokenizer, [column], ("a", "b", "c"), count=1, seed=1)
    assert seen.answer == answer


def test_the_same_units_are_drawn_every_time(tmp_path: Path) -> None:
    task_name = "text-classification"
    options = declaration_of(task_name).options()
    task = task_of(task_name, TaskContext(options, ("a", "b"), 64))
    tokenizer = task.load_tokenizer(tiny_bert(tmp_path / "bert"))
    rows = rows_of({"text": [f"film {i}" for i in range(50)], "label": [0] * 50})
    store = TokenStore.write(tmp_path / "s", task.encode(rows, tokenizer), padding_of(tokenizer))
    drawn = [
        [p.place for p in previews(store, rows, tokenizer, [], (), count=3, seed=seed)]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
