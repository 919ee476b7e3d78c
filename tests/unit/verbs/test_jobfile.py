"""Job files: what loads, and what a person is told about one that does not."""

# ruff: noqa: E501 - a case of a table stands on one line

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tunefleet.api.digest import job_values
from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.verbs.jobfile import load, parse

EPOCHS = "    epochs: 3\n"

BASE = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: reviews
spec:
  task: text-classification
  model: {name: google-bert/bert-base-uncased}
  data:
    train: {uri: reviews.csv}
    columns: {text: review, label: stars}
  training:
    optimizer: {learningRate: 2e-5}
    epochs: 3
"""

FULL = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: review-sentiment, labels: {kueue.x-k8s.io/queue-name: gpu}}
spec:
  task: text-classification
  textClassification: {problem: single-label, labelSmoothing: 0.1}
  model: {name: google-bert/bert-base-uncased, revision: 86b5e093, method: {type: lora, lora: {rank: 4}}}
  data:
    train: {uri: [a.csv, "b-*.csv"], format: csv, delimiter: ";", encoding: latin-1}
    validation: {fraction: 0.1, groupBy: customer}
    test: {hub: {name: imdb, split: test}}
    columns: {text: review, label: stars}
    labels: ["no", "yes"]
    duplicates: drop
  training:
    maxSteps: 500
    batchSize: 64
    microBatch: auto
    optimizer: {name: adamw, learningRate: 2e-5, weightDecay: 0.01, schedule: linear, warmup: 0.06, clipNorm: 1.0}
    maxLength: 256
    precision: auto
    seed: 17
  evaluation: {every: 1ep, earlyStopping: {metric: f1_macro, patience: 3}}
  workers: {count: 4, resources: {gpu: 1}}
  checkpoints: {uri: runs, every: 30m, keep: {last: 1, best: 2}}
  retry: {maxFailures: 3}
  serving: {gate: {metric: f1_macro, min: 0.85}}
"""


def problems(text: str, *overrides: str) -> list[Problem]:
    with pytest.raises(SpecError) as raised:
        parse(text, "job.yaml", overrides)
    return list(raised.value.problems)


# -- what loads ------------------------------------------------------------------------------


def test_a_file_with_every_honoured_block_loads(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(FULL)
    file = load(path)
    assert file.job.spec.training.optimizer.learning_rate == 2e-5
    assert file.job.metadata.labels == {"kueue.x-k8s.io/queue-name": "gpu"}
    assert file.job.spec.data.labels == ["no", "yes"]
    assert (file.base, file.path, file.text) == (tmp_path, path, FULL)


def test_relative_locations_start_at_the_files_folder_not_at_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job.yaml").write_text(BASE)
    monkeypatch.chdir(tmp_path)
    assert load("jobs/job.yaml").base == tmp_path / "jobs"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-5", 2e-5),
        ("2.0E-5", 2e-5),
        (".5", 0.5),
        ("1", 1.0),
        ("+0.1", 0.1),
    ],
)
def test_numbers_are_those_of_yaml_1_2(written: str, value: float) -> None:
    job = parse(BASE.replace("2e-5", written), "job.yaml")
    assert math.isclose(job.spec.training.optimizer.learning_rate, value)


def test_a_json_file_is_a_job_file_too() -> None:
    values = job_values(parse(BASE, "job.yaml"))
    text = json.dumps({k: v for k, v in values.items()}, indent=1)
    assert job_values(parse(text, "job.json")) == values


def test_an_anchor_may_be_used_twice() -> None:
    text = BASE.replace("{uri: reviews.csv}", "{uri: &file reviews.csv, format: csv}").replace(
        "    columns:", "    validation: {uri: *file, format: csv}\n    columns:"
    )
    assert parse(text, "job.yaml").spec.data.validation.uri == "reviews.csv"


def test_values_written_out_load_as_the_same_job() -> None:
    job = parse(FULL, "job.yaml")
    assert FineTuneJob.model_validate(job_values(job)) == job


def test_the_digest_ignores_comments_and_order_and_sees_values(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE)
    plain = load(path)
    path.write_text("# hello\n" + BASE.replace("epochs: 3", "epochs:   3   # three"))
    assert load(path).digest == plain.digest
    assert load(path, ["training.epochs=4"]).digest != plain.digest


def test_it_draws_itself_for_a_notebook(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE.replace("review,", '"<b>",'))
    drawn = load(path)._repr_html_()
    assert "reviews" in drawn
    assert "<b>&quot;" not in drawn
    assert "&lt;b&gt;" in drawn


# -- several things wrong ----------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: My Job}
spec:
  task: text-classification
  model: {name: a/b, trustRemoteCode: true}
  data:
    train: {uri: hdfs://x/y.csv}
    colums: {text: review}
    labels: [no, yes, 1.10]
  training:
    epochs: "3"
    epochs: 4
    microBatch: foo
  evaluation: {every: 0ep, earlyStopping: {metric: f1_makro}}
  causalLm: {format: chat}
  workers: {count: -1}
"""
    found = problems(text, "training.seed=-1", "nonsense")
    assert [problem.line for problem in found if problem.file == "job.yaml"] == sorted(
        problem.line or 0 for problem in found if problem.file == "job.yaml"
    )
    assert {(problem.line, problem.where) for problem in found} == {
        (3, "metadata.name"),
        (6, "spec.model.trustRemoteCode"),
        (8, "spec.data.train.uri"),
        (9, "spec.data.colums"),
        (10, "spec.data.labels[0]"),
        (10, "spec.data.labels[1]"),
        (10, "spec.data.labels[2]"),
        (12, "spec.training.epochs"),
        (13, "spec.training.epochs"),
        (14, "spec.training.microBatch"),
        (15, "spec.evaluation.every"),
        (15, "spec.evaluation.earlyStopping.metric"),
        (16, "spec.causalLm"),
        (17, "spec.workers.count"),
        (None, "spec.training.seed"),
        (None, ""),
    }


def test_a_rule_is_silent_while_a_field_it_reads_is_wrong_itself() -> None:
    # With the task unknown, nobody can say whether f1_macro is one of its metrics.
    text = BASE.replace("text-classification", "translation") + ("  evaluation: {metric: bleu}\n")
    assert [problem.where for problem in problems(text)] == ["spec.task"]


def test_a_missing_field_is_not_told_beside_its_misspelling() -> None:
    found = problems(BASE.replace("  task:", "  tasks:"))
    assert [problem.where for problem in found] == ["spec.tasks"]


def test_a_thousand_problems_are_cut_short_with_their_number() -> None:
    lines = "".join(f"    zz{at}: 1\n" for at in range(1000))
    with pytest.raises(SpecError, match="1000 problems in job") as raised:
        parse(BASE.replace(EPOCHS, lines), "job.yaml")
    assert len(raised.value.problems) == 50
    assert "950 more" in raised.value.remedy


def test_a_message_reads_as_file_line_field_what_and_remedy() -> None:
    with pytest.raises(SpecError) as raised:
        parse(BASE.replace("epochs", "epoch"), "jobs/a.yaml")
    assert str(raised.value).splitlines() == [
        "1 problem in jobs/a.yaml",
        "  jobs/a.yaml:13: spec.training.epoch: there is no such field here",
        "    → did you mean `epochs`?",
    ]


# -- files that cannot be read as a job --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "says", "remedy"),
    [
        ("", None, "the file is empty", "tunefleet init"),
        ("# only a comment\n", None, "the file is empty", "tunefleet init"),
        ("just text\n", 1, "a job is a block of fields", "begin with `apiVersion:`"),
        ("- a\n- b\n", 1, "a job is a block of fields", "apiVersion"),
        (BASE.replace("    epochs", "\tepochs"), 13, "a tab stands where spaces", "indent with spaces"),
        (BASE + "---\n" + BASE, 14, "several documents", "keep one job to a file"),
        (BASE.replace("reviews.csv", "'reviews.csv"), None, "a quote is opened and not closed", "close"),
        (BASE.replace("    epochs: 3", "     epochs: 3"), 13, "indentation", "same column"),
        (BASE.replace("epochs: 3", "epochs: a: 3"), 13, "a colon stands", "quotes"),
        (BASE.replace("{uri: reviews.csv}", "{uri: reviews.csv"), 10, "not closed", "close it"),
        (BASE.replace("reviews.csv", "*.csv"), 9, "an * begins an alias", "quotes"),
        (BASE.replace("reviews.csv", "@data"), 9, "YAML keeps for itself", "quotes"),
        (BASE.replace("epochs: 3", "epochs: \x01"), 13, "U+0001", "remove it"),
        ("a: " + "[" * 1500, None, "nested too deeply", "a few dozen lines"),
        ("a: " + "[" * 60 + "]" * 60, 1, "nested too deeply", "a few dozen lines"),
        ("a: &a [*a]\n", 1, "nested too deeply", "a few dozen lines"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{chr(98 + at)}: &{chr(98 + at)} [{','.join([f'*{chr(97 + at)}'] * 9)}]\n"
                for at in range(8)
            ),
            None,
            "too many of them",
            "a few dozen lines",
        ),
    ],
    ids=[
        "an empty file",
        "a file of comments",
        "a file of text",
        "a list",
        "a tab as indentation",
        "two documents",
        "an open quote",
        "a crooked indentation",
        "two colons",
        "an open brace",
        "a glob without quotes",
        "an at sign",
        "a control character",
        "brackets without end",
        "brackets too deep",
        "an alias of itself",
        "a billion laughs",
    ],
)  # fmt: skip
def test_a_file_that_is_no_job_is_refused_with_its_line(
    text: str, line: int | None, says: str, remedy: str
) -> None:
    (problem,) = problems(text)
    assert says in problem.message
    assert remedy in problem.remedy
    if line is not None:
        assert problem.line == line


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (BASE.replace("reviews.csv", "café.csv").encode("latin-1"), "job.yaml:9: is not UTF-8"),
        (b"a" * (2**20 + 1), "larger than 1 MiB"),
    ],
    ids=["Latin-1 bytes", "a huge file"],
)
def test_bytes_that_are_no_job_are_refused(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError) as raised:
        load(path)
    assert says in str(raised.value)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(path).job.metadata.name == "reviews"


def test_a_file_that_is_not_there_names_the_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(BASE)
    with pytest.raises(SpecError, match=r"there is no file") as raised:
        load(tmp_path / "job.yaml")
    assert "job.yml" in raised.value.remedy


@pytest.mark.parametrize("name", [".", "a\0b"], ids=["a folder", "a name with a zero byte"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        load(tmp_path / name)
