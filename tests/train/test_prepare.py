"""Prepare on real folders: exact facts, one pass, and every problem at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_models import tiny_bert, tiny_llama
from tunefleet.api.errors import DataError, ModelError, StorageError, TunefleetError
from tunefleet.api.job import FineTuneJob
from tunefleet.data.tokens import Encoded, Rows, TokenStore
from tunefleet.storage.bundle import seal
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext
from tunefleet.train import units
from tunefleet.train.prepare import Prepared, prepare

WORDS = ("wonderful", "dull", "charming", "terrible", "clever", "slow", "funny", "long")
ROWS = "text,label\n" + "".join(
    f"a {WORDS[i % 8]} film {' and more' * (i % 11)},{'good' if i % 2 == 0 else 'bad'}\n"
    for i in range(120)
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny_bert(folder / "bert"),
        "labelled": tiny_bert(folder / "labelled", labels=["bad", "good"]),
        "llama": tiny_llama(folder / "llama"),
    }


@pytest.fixture
def base(tmp_path: Path, models: dict[str, Path]) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS)
    for name, folder in models.items():
        (tmp_path / name).symlink_to(folder)
    return tmp_path


def job(**changes: Any) -> FineTuneJob:
    spec = {
        "task": "text-classification",
        "model": {"uri": "bert"},
        "data": {"train": {"uri": "rows.csv"}},
        **changes,
    }
    return FineTuneJob.model_validate(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tiny"},
            "spec": spec,
        }
    )


def prepared(base: Path, **changes: Any) -> Prepared:
    return prepare(job(**changes), base, cache=base / "cache")


# -- facts ---------------------------------------------------------------------------------

SIZES: dict[str, dict[str, Any]] = {
    "a new head on a base model": {},
    "a head the checkpoint has": {"model": {"uri": "labelled"}},
    "one output for a number": {"textClassification": {"problem": "regression"}},
    "adapters on a base model": {"model": {"uri": "bert", "method": {"type": "lora"}}},
    "adapters on named layers": {
        "model": {
            "uri": "labelled",
            "method": {"type": "lora", "lora": {"rank": 3, "targetModules": ["dense"]}},
        }
    },
    "a language model": {"task": "causal-lm", "model": {"uri": "llama"}},
    "adapters on a language model": {
        "task": "causal-lm",
        "model": {"uri": "llama", "method": {"type": "lora"}},
    },
}


@pytest.mark.parametrize("changes", [pytest.param(c, id=name) for name, c in SIZES.items()])
def test_parameters_are_counted_exactly(base: Path, changes: dict[str, Any]) -> None:
    """Against the model that training loads."""
    if changes.get("textClassification"):
        (base / "rows.csv").write_text(ROWS.replace("good", "1").replace("bad", "0"))
    if changes.get("task") == "causal-lm":
        changes = {**changes, "data": {**job().spec.data.model_dump(by_alias=True)}}
        changes["data"] = {
            "train": {"uri": "rows.csv"},
            "columns": {"prompt": "text", "completion": "label"},
        }
    facts = prepared(base, **changes).facts
    spec = job(**changes).spec
    context = TaskContext(spec.options, tuple(facts.data.labels), facts.max_length)
    loaded = task_of(spec.task, context).load_model(Path(facts.model.path), spec.model, 1)
    every = list(loaded.parameters())
    assert facts.model.parameters == sum(p.numel() for p in every)
    assert facts.model.trainable_parameters == sum(p.numel() for p in every if p.requires_grad)
    assert facts.model.largest_parameter == max(p.numel() for p in every)


def test_facts_of_a_job(base: Path) -> None:
    found = prepared(base, data={"train": {"uri": "rows.csv"}, "test": {"fraction": 0.25}})
    facts, data = found.facts, found.facts.data
    assert (data.train.rows, data.validation.rows) == (78, 12)
    assert data.test is not None
    assert data.test.rows == 30
    assert data.labels == ["bad", "good"]
    assert data.train.classes == {"bad": 39, "good": 39}
    assert data.columns == {"text": "text", "label": "label"}
    assert facts.model.architecture == "BertForSequenceClassification"
    assert (facts.model.layers, facts.model.hidden_size) == (2, 32)
    assert (facts.model.max_positions, facts.model.head_outputs) == (128, 2)
    assert facts.storage.conditional_put
    store = TokenStore(Path(data.train.store))
    assert sum(n * c for n, c in data.train.lengths) == data.train.tokens == store.offsets[-1]
    assert facts.max_length == -(-store.longest // 8) * 8
    assert "longest text" in facts.max_length_reason


def test_rows_can_be_looked_at_by_split(base: Path) -> None:
    found = prepared(base)
    rows = found.rows("validation")
    lines = (base / "rows.csv").read_text().splitlines()
    for position in range(len(rows)):
        file, line = rows.place(position)
        assert file == "rows.csv"
        assert line is not None
        text, label = lines[line - 1].split(",")
        assert rows.columns["text"][position] == text
        assert rows.columns["label"][position] == int(label == "good")
    with pytest.raises(KeyError, match="test"):
        found.rows("test")


def test_tokens_are_those_of_the_tokenizer(base: Path, models: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    found = prepared(base)
    rows, store = found.rows("train"), TokenStore(Path(found.facts.data.train.store))
    tokenizer: Any = AutoTokenizer.from_pretrained(models["bert"])
    wanted = tokenizer(list(rows.columns["text"]))["input_ids"]
    assert np.split(store.ragged["input_ids"], store.offsets[1:-1])[7].tolist() == wanted[7]
    assert store.ragged["input_ids"].tolist() == [token for unit in wanted for token in unit]
    assert store.padding["input_ids"] == tokenizer.pad_token_id


LIMITS: dict[str, tuple[int | None, int | None, int, tuple[int, str]]] = {
    "given": (64, 512, 512, (64, "given")),
    "a short model": (None, 128, 10**30, (128, "at most 128 tokens")),
    "a tokenizer shorter than its model": (None, 512, 256, (256, "at most 256 tokens")),
    "a long model": (None, 8192, 8192, (512, "unless training.maxLength")),
    "a model without positions": (None, None, 10**30, (512, "unless training.maxLength")),
    "given for a model without positions": (2048, None, 10**30, (2048, "given")),
}


@pytest.mark.parametrize(
    ("given", "positions", "tokenizer", "answer"),
    [pytest.param(*case, id=name) for name, case in LIMITS.items()],
)
def test_the_longest_unit(
    given: int | None, positions: int | None, tokenizer: int, answer: tuple[int, str]
) -> None:
    limit, reason = units.length_limit(given, positions, tokenizer)
    assert limit == answer[0]
    assert answer[1] in reason


def test_texts_that_are_cut_off_are_told(base: Path) -> None:
    found = prepared(base, training={"maxLength": 8}).facts
    assert found.max_length == 8
    told = [f for f in found.data.findings if f.code == "truncated"]
    assert [f.count for f in told] == [found.data.train.truncated, found.data.validation.truncated]
    assert "longer than 8 tokens" in told[0].message
    assert max(length for length, _ in found.data.train.lengths) == 8


# -- the cache -----------------------------------------------------------------------------


def test_a_second_call_reads_facts_and_loads_neither_torch_nor_transformers(base: Path) -> None:
    first = prepared(base).facts
    script = (
        "import sys, time, json, pathlib\n"
        "from tunefleet.api.job import FineTuneJob\n"
        "from tunefleet.train.prepare import prepare\n"
        "job = FineTuneJob.model_validate_json(sys.stdin.read())\n"
        "base = pathlib.Path(sys.argv[1])\n"
        "start = time.monotonic()\n"
        "facts = prepare(job, base, cache=base / 'cache').facts\n"
        "heavy = sorted({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules))\n"
        "print(json.dumps([time.monotonic() - start, heavy, facts.to_json()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(base)],
        input=job().model_dump_json(by_alias=True, exclude_none=True),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    seconds, heavy, again = json.loads(done.stdout)
    assert heavy == []
    assert json.loads(again) == json.loads(first.to_json())
    assert seconds < 5


Change = Callable[[Path], dict[str, Any]]


def touch(base: Path) -> dict[str, Any]:
    future = time.time() + 100
    os.utime(base / "rows.csv", (future, future))
    return {}


def add_row(base: Path) -> dict[str, Any]:
    with (base / "rows.csv").open("a") as rows:
        rows.write("one more,good\n")
    return {}


def drop_store(base: Path) -> dict[str, Any]:
    for file in base.glob("cache/tokens/*/rows.arrow"):
        file.unlink()
    return {}


def facts_files(base: Path) -> dict[str, int]:
    """Every file of facts in the cache with the time it was written."""
    return {file.name: file.stat().st_mtime_ns for file in base.glob("cache/facts/*.json")}


RERUNS: dict[str, tuple[Change, bool, bool]] = {
    "another number of epochs": (lambda b: {"training": {"epochs": 9}}, True, True),
    "another optimiser": (
        lambda b: {"training": {"optimizer": {"learningRate": 0.1}}},
        True,
        True,
    ),
    "a file that was only touched": (touch, False, True),
    "a lost store": (drop_store, False, True),
    "another seed": (lambda b: {"training": {"seed": 18}}, False, False),
    "another row": (add_row, False, False),
    "another maximum length": (lambda b: {"training": {"maxLength": 16}}, False, False),
    "another model": (lambda b: {"model": {"uri": "llama"}}, False, False),
}


@pytest.mark.parametrize(
    ("change", "same_facts", "same_tokens"),
    [pytest.param(*case, id=name) for name, case in RERUNS.items()],
)
def test_what_is_done_anew_after(
    base: Path, change: Change, same_facts: bool, same_tokens: bool
) -> None:
    first = prepared(base).facts
    kept = facts_files(base)
    second = prepared(base, **change(base)).facts
    assert (facts_files(base) == kept) is same_facts
    assert (second.data.train.store == first.data.train.store) is same_tokens
    if same_tokens:
        assert second.data.digest == first.data.digest


# -- errors --------------------------------------------------------------------------------


def errors(base: Path, kind: type[TunefleetError], **changes: Any) -> str:
    with pytest.raises(kind) as raised:
        prepared(base, **changes)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_model_data_and_storage_are_complained_of_together(base: Path) -> None:
    (base / "blocked").write_text("in the way")
    told = errors(
        base,
        ModelError,
        model={"uri": "nowhere"},
        data={"train": {"uri": "row.csv"}},
        checkpoints={"uri": "blocked"},
    )
    assert "model folder" in told
    assert "no file matches row.csv" in told
    assert "did you mean rows.csv" in told
    assert told.count("→") == 3
    assert str(base / "blocked") in told


def test_a_length_above_the_positions_of_the_model(base: Path) -> None:
    told = errors(base, ModelError, training={"maxLength": 129})
    assert "spec.training.maxLength: 129 is more than the 128 positions" in told


def test_a_tokenizer_of_another_model(base: Path, tmp_path: Path) -> None:
    mixed = tiny_bert(tmp_path / "mixed")
    config = json.loads((mixed / "config.json").read_text())
    (mixed / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    told = errors(base, ModelError, model={"uri": "mixed"})
    assert "they do not belong together" in told


def test_a_model_of_another_kind(base: Path, tmp_path: Path) -> None:
    other = tiny_bert(tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "vit"}))
    told = errors(
        base,
        ModelError,
        task="causal-lm",
        model={"uri": "other"},
        data={"train": {"uri": "rows.csv"}, "columns": {"prompt": "text", "completion": "label"}},
    )
    assert "a vit model cannot be used for this task" in told


def test_a_model_type_that_nobody_knows(base: Path, tmp_path: Path) -> None:
    other = tiny_bert(tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "tomorrow"}))
    assert "cannot be used" in errors(base, ModelError, model={"uri": "other"})


def test_rows_that_a_task_cannot_encode_are_named(base: Path) -> None:
    chats = [
        [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
        [{"role": "user", "content": "hello"}],
    ]
    lines = [json.dumps({"messages": chats[int(i == 4)]}) for i in range(20)]
    (base / "chats.jsonl").write_text("\n".join(lines))
    told = errors(
        base,
        DataError,
        task="causal-lm",
        causalLm={"format": "chat"},
        model={"uri": "llama"},
        data={"train": {"uri": "chats.jsonl"}},
    )
    assert "chats.jsonl:5" in told
    assert not list(base.glob("cache/facts/*"))


def test_a_store_that_cannot_be_written_stops_before_anything_is_tokenised(base: Path) -> None:
    (base / "blocked").write_text("in the way")
    errors(base, StorageError, checkpoints={"uri": "blocked"})
    assert not (base / "cache" / "tokens").exists()


def test_a_cache_that_cannot_be_written_says_so(base: Path) -> None:
    (base / "cache").write_text("in the way")
    told = errors(base, StorageError)
    assert f"prepared data cannot be kept in {base / 'cache'}: Not a directory" in told
    assert "set TUNEFLEET_CACHE" in told


HEADS: dict[str, tuple[list[str] | None, str | None]] = {
    "the same labels in the same order": (None, None),
    "the same labels in another order": (["good", "bad"], "warning"),
    "other labels": (["bad", "good", "mixed"], "info"),
}


@pytest.mark.parametrize(
    ("labels", "severity"), [pytest.param(*case, id=name) for name, case in HEADS.items()]
)
def test_a_head_that_is_replaced_is_told(
    base: Path, labels: list[str] | None, severity: str | None
) -> None:
    data = {"train": {"uri": "rows.csv"}} | ({"labels": labels} if labels else {})
    facts = prepared(base, model={"uri": "labelled"}, data=data).facts
    told = [f for f in facts.data.findings if f.code == "head"]
    assert [f.severity.value for f in told] == ([severity] if severity else [])


def test_a_bundle_that_was_changed_is_refused(base: Path, tmp_path: Path) -> None:
    bundle = tiny_bert(tmp_path / "bundle")
    seal(bundle, {"job": "earlier"})
    source = {"from": {"bundle": "bundle"}}
    assert prepared(base, model=source).facts.model.source == "bundle"
    (bundle / "config.json").write_text((bundle / "config.json").read_text() + " ")
    assert "config.json" in errors(base, ModelError, model=source)


def test_progress_is_told_in_order(base: Path) -> None:
    told: list[tuple[str, int, int]] = []
    prepare(job(), base, cache=base / "cache", progress=lambda *step: told.append(step))
    assert [stage for stage in dict.fromkeys(stage for stage, _, _ in told)] == [
        "reading",
        "model",
        "tokenising",
    ]
    rows = [done for stage, done, _ in told if stage == "tokenising"]
    assert rows == sorted(rows)
    assert rows[-1] == 120


# -- units that carry nothing ---------------------------------------------------------------


def silent(folder: Path, weights: list[int]) -> tuple[TokenStore, Rows]:
    count = len(weights)
    encoded = Encoded(
        ragged={"input_ids": np.arange(count, dtype=np.int32)},
        offsets=np.arange(count + 1, dtype=np.int64),
        fixed={},
        ids=np.arange(7, 7 + count, dtype=np.int64),
        weights=np.array(weights, np.int64),
    )
    rows = Rows(
        columns={"text": ["x"] * count},
        ids=encoded.ids,
        files=("r.jsonl",),
        file_of=np.zeros(count, np.int32),
        lines=np.arange(1, count + 1, dtype=np.int64),
    )
    return TokenStore.write(folder, encoded, {}), rows


def test_units_without_a_supervised_token_are_told_with_their_place(tmp_path: Path) -> None:
    store, rows = silent(tmp_path / "s", [3, 0, 2, 0])
    (told,) = units.check_units("train", store, rows, vocabulary=10, limit=8)
    assert (told.code, told.count) == ("nothing supervised", 2)
    assert (told.file, told.line) == ("r.jsonl", 2)


def test_a_split_without_any_supervised_token_is_refused(tmp_path: Path) -> None:
    store, rows = silent(tmp_path / "s", [0, 0])
    with pytest.raises(DataError, match="there is nothing to learn from"):
        units.check_units("train", store, rows, vocabulary=10, limit=8)
