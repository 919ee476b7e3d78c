"""``tunefleet check``: what a person and a script are shown before anything is spent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.tiny_models import tiny_bert
from tunefleet.api.errors import DataError, MachineError
from tunefleet.verbs.check import CheckResult, check

JOB = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: films}
spec:
  task: text-classification
  model: {uri: bert}
  data:
    train: {uri: rows.csv}
    columns: {text: review}
"""
ROWS = "review,label\n" + "".join(
    f"film {i} {' and more' * (i % 7)},{'good' if i % 4 else 'bad'}\n" for i in range(100)
)


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "cache"))
    tiny_bert(tmp_path / "bert")
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def printed(result: CheckResult) -> str:
    stream = io.StringIO()
    result.render(Console(file=stream, width=120))
    return stream.getvalue()


def test_a_sound_job(job_file: Path) -> None:
    result = check(job_file, device="cpu")
    assert result.facts.data.train.rows == 90
    assert list(result.splits) == ["train", "validation"]
    text = printed(result)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("train 90 ") for line in lines)
    assert "bad 22 24.4% 3 30.0%" in lines
    assert "columns text from 'review', label" in lines
    assert "nothing stands in the way" in lines[-1]
    assert result.previews == ()


def test_the_worst_is_told_first(job_file: Path) -> None:
    rows = ROWS + ROWS.split("\n", 1)[1][:200].rsplit("\n", 1)[0] + "\n"
    (job_file.parent / "rows.csv").write_text(rows)
    result = check(job_file, device="cpu")
    severities = [found.severity.value for found in result.findings]
    assert severities == sorted(severities, reverse=True)
    assert severities[0] == "warning"
    text = printed(result)
    assert "rows repeat an earlier row" in text
    assert "→ set data.duplicates: drop" in text
    assert text.index("warning ") < text.index("info ")


def test_what_the_model_will_see(job_file: Path) -> None:
    result = check(job_file, show=2, device="cpu")
    assert len(result.previews) == 2
    text = printed(result)
    for preview in result.previews:
        assert preview.place in text
    assert "[CLS]·" in text
    assert "padding" in text
    seen = json.loads(result.to_json())["show"]
    assert [unit["tokens"][0]["text"] for unit in seen] == ["[CLS]", "[CLS]"]
    assert {unit["answer"] for unit in seen} <= {"good", "bad"}


def test_json_holds_what_a_script_needs(job_file: Path) -> None:
    values = json.loads(check(job_file, device="cpu").to_json())
    lengths = values["facts"]["data"]["train"]["lengths"]
    every = [length for length, count in lengths for _ in range(count)]
    assert values["lengths"]["train"]["max"] == max(every)
    assert values["lengths"]["train"]["p50"] == sorted(every)[(len(every) - 1) // 2]
    assert 0 < values["memory"]["bytes"] < values["memory"]["available"]
    assert values["job"] == "films"


def test_in_a_notebook_texts_are_text(job_file: Path) -> None:
    rows = ROWS.replace("film 1 ", "<script>alert(1)</script> ")
    (job_file.parent / "rows.csv").write_text(rows)
    page = check(job_file, show=100, device="cpu")._repr_html_()
    assert "nothing stands in the way" in page
    assert "<script>" not in page


def test_overrides_count(job_file: Path) -> None:
    result = check(job_file, ["data.validation.fraction=0.4"], device="cpu")
    assert result.facts.data.validation.rows == 40


def test_what_is_wrong_is_raised_with_file_and_line(job_file: Path) -> None:
    (job_file.parent / "rows.csv").write_text(ROWS + ",good\n")
    with pytest.raises(DataError, match=r"rows\.csv:102: column 'review' is empty"):
        check(job_file, device="cpu")


def test_a_tracker_that_cannot_be_used_is_refused_before_the_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nowhere"))
    (tmp_path / "job.yaml").write_text(JOB + "  tracking: {wandb: {project: films}}\n")
    with pytest.raises(MachineError) as caught:
        check(tmp_path / "job.yaml")
    (problem,) = caught.value.problems
    assert problem.where == "spec.tracking.wandb"
    assert "WANDB_MODE=offline" in problem.remedy
