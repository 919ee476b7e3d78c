"""Prepare on data and a model that lie in a bucket."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.testbed.s3 import S3Server
from tests.tiny_models import SENTENCES, tiny_bert
from tunefleet.api.errors import DataError, ModelError, StorageError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import Severity
from tunefleet.storage.bundle import seal
from tunefleet.storage.connect import Patience
from tunefleet.storage.store import Store, open_store
from tunefleet.train.prepare import Prepared, prepare

_names = itertools.count()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def store(s3_environment: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three Parquet files of rows, and a store that is given up after a second."""
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 1))
    store = open_store(s3_environment.uri(f"prepare/{next(_names)}"), Path.cwd())
    for number in range(3):
        write_rows(store, f"reviews/train-{number}.parquet", tmp_path, number)
    store.put("reviews/notes.md", b"not data")
    return store


def write_rows(store: Store, key: str, folder: Path, seed: int) -> None:
    """Twenty rows of their own."""
    texts = [f"{SENTENCES[i % 10]} {seed} {i}" for i in range(20)]
    table = pa.table({"text": texts, "label": [("bad", "good")[i % 2] for i in range(20)]})
    pq.write_table(table, folder / "rows.parquet")
    store.put(key, folder / "rows.parquet")


def prepared(store: Store, model: Any, base: Path, **data: Any) -> Prepared:
    spec = {
        "task": "text-classification",
        "model": model if isinstance(model, dict) else {"uri": str(model)},
        "data": {"train": {"uri": f"{store.uri}/reviews/train-*.parquet"}, **data},
        "checkpoints": {"uri": str(base / "runs")},
    }
    values = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "tiny"},
        "spec": spec,
    }
    return prepare(FineTuneJob.model_validate(values), base, cache=base / "cache")


def test_a_pattern_in_a_bucket_is_read_like_one_on_disk(
    store: Store, model: Path, tmp_path: Path
) -> None:
    facts = prepared(store, model, tmp_path).facts
    assert facts.data.train.rows + facts.data.validation.rows == 60
    assert [name for name in facts.data.files if name.startswith("s3://")] == [
        f"{store.uri}/reviews/train-{number}.parquet" for number in range(3)
    ]
    folder = tmp_path / "disk"
    folder.mkdir()
    store.download("reviews", folder)
    local = prepared(store, model, tmp_path, train={"uri": f"{folder}/train-*.parquet"}).facts
    assert local.data.digest == facts.data.digest


def test_a_changed_object_is_noticed_and_an_unchanged_one_costs_nothing(
    store: Store, model: Path, tmp_path: Path
) -> None:
    first = prepared(store, model, tmp_path).facts
    assert prepared(store, model, tmp_path).facts == first
    write_rows(store, "reviews/train-1.parquet", tmp_path, 9)
    assert prepared(store, model, tmp_path).facts.data.digest != first.data.digest


def test_a_store_that_is_away_is_answered_from_the_cache_with_a_warning(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(store, model, tmp_path).facts
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    again = prepared(store, model, tmp_path).facts
    assert again.data.digest == first.data.digest
    (warning, *rest) = again.data.findings
    assert warning.severity is Severity.WARNING
    assert "cannot be reached" in warning.message
    assert rest == first.data.findings


def test_a_model_and_a_bundle_are_fetched_and_checked(
    store: Store, model: Path, tmp_path: Path
) -> None:
    for path in model.iterdir():
        store.put(f"model/{path.name}", path)
    facts = prepared(store, Path(model), tmp_path).facts
    remote = prepared(store, f"{store.uri}/model", tmp_path).facts
    assert remote.model.digest == facts.model.digest
    assert remote.model.source == f"{store.uri}/model"

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in model.iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    seal(bundle, {})
    for path in bundle.rglob("*"):
        if path.is_file():
            store.put(f"bundle/{path.relative_to(bundle).as_posix()}", path)
    source: Any = {"from": {"bundle": f"{store.uri}/bundle"}}
    assert prepared(store, source, tmp_path).facts.model.source == f"{store.uri}/bundle"
    store.put("bundle/config.json", store.get("bundle/config.json") + b" ")
    with pytest.raises(ModelError, match=r"was changed after it was made: config\.json"):
        prepared(store, source, tmp_path)


@pytest.mark.parametrize(
    "key, error, says, remedy",
    [
        ("reviews/none-*.csv", DataError, "no object matches s3://", "listing"),
        ("reviews", DataError, "no object matches s3://", "pattern"),
        ("reviews/notes.md", DataError, "cannot tell the format", "set format"),
        ("../x.csv", StorageError, "no key of a store", "single slashes"),
    ],
)
def test_what_is_not_there_is_told(
    store: Store,
    model: Path,
    tmp_path: Path,
    key: str,
    error: type[Exception],
    says: str,
    remedy: str,
) -> None:
    with pytest.raises(error, match=says) as caught:
        prepared(store, model, tmp_path, train={"uri": f"{store.uri}/{key}"})
    assert remedy in str(caught.value)
