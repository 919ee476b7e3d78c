"""``--set``: how a path and a value on the command line are read."""

# ruff: noqa: E501 - a case of a table stands on one line

from __future__ import annotations

import pytest

from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.verbs.jobfile import parse

TEXT = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: reviews}
spec:
  task: text-classification
  model: {name: a/b}
  data:
    train: {uri: [a.csv, b.csv]}
    columns: {text: review}
  training: {epochs: 3}
"""


def job(*overrides: str) -> FineTuneJob:
    return parse(TEXT, "job.yaml", overrides)


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("training.epochs=1", "spec.training.epochs", 1),
        ("spec.training.epochs=1", "spec.training.epochs", 1),
        ("metadata.name=other", "metadata.name", "other"),
        ("training.optimizer.learningRate=1e-4", "spec.training.optimizer.learning_rate", 1e-4),
        ("training.optimizer={name: sgd, momentum: 0.9}", "spec.training.optimizer.momentum", 0.9),
        ("data.labels=[good, bad]", "spec.data.labels", ["good", "bad"]),
        ("data.train.uri[1]=c.csv", "spec.data.train.uri", ["a.csv", "c.csv"]),
        ("data.train.uri.0=c.csv", "spec.data.train.uri", ["c.csv", "b.csv"]),
        ("data.train.uri[2]=c.csv", "spec.data.train.uri", ["a.csv", "b.csv", "c.csv"]),
        ("data.columns.text=body", "spec.data.columns", {"text": "body"}),
        ("metadata.labels.\"a.b/c\"=d", "metadata.labels", {"a.b/c": "d"}),
        ("training.epochs = 1", "spec.training.epochs", 1),
        ("training=null", "spec.training.epochs", None),
        ("data.columns={label: 'no'}", "spec.data.columns", {"label": "no"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_field_is_set(override: str, read: str, value: object) -> None:
    found: object = job(override)
    for step in read.split("."):
        found = getattr(found, step)
    assert found == value


def test_the_last_of_several_wins() -> None:
    assert job("training.epochs=1", "training.epochs=2").spec.training.epochs == 2


def test_null_takes_a_field_away_so_that_another_can_stand_for_it() -> None:
    training = job("training.epochs=null", "training.maxSteps=10").spec.training
    assert (training.epochs, training.max_steps) == (None, 10)


def test_an_override_can_mend_the_file() -> None:
    text = TEXT.replace("epochs: 3", "epochs: -3")
    assert parse(text, "job.yaml", ["training.epochs=3"]).spec.training.epochs == 3


@pytest.mark.parametrize(
    ("override", "where", "says", "remedy"),
    [
        ("nonsense", "", "not written as field=value", "--set training.epochs=1"),
        ("=1", "", "not written as field=value", "--set"),
        ("a..b=1", "", "not written as field=value", "--set"),
        ("[0]=1", "", "not written as field=value", "--set"),
        ("training.epoch=1", "spec.training.epoch", "no such field", "did you mean `epochs`?"),
        ("trainig.epochs=1", "spec.trainig", "no such field", "did you mean `training`?"),
        ("epochs=1", "spec.epochs", "no such field", "`epochs` belongs under training"),
        ("training.epochs=many", "spec.training.epochs", "'many' is not a whole number", "above 0"),
        ("training.epochs=", "spec.training.epochs", "is not a whole number", "above 0"),
        ("training.epochs=[1", "spec.training.epochs", "not closed", "close it"),
        ("training.epochs={a: 1, a: 2}", "spec.training.epochs.a", "given twice", "keep one"),
        ("task.name=x", "spec.task", "has no fields below it", "check the path"),
        ("data.train.uri[7]=x", "spec.data.train.uri", "has 2 items; there is no item [7]", "from 0"),
        ("training[0]=x", "spec.training", "has no fields below it", "check the path"),
        ("data.labels=[good, no]", "spec.data.labels[1]", "read as true or false", '"no"'),
        ("checkpoints.uri=ftp://b", "spec.checkpoints.uri", "`ftp` locations", "file:///"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_override_is_named_as_it_was_given(
    override: str, where: str, says: str, remedy: str
) -> None:
    with pytest.raises(SpecError) as raised:
        job(override)
    (problem,) = raised.value.problems
    assert isinstance(problem, Problem)
    assert problem.file == f"--set {override}"
    assert problem.line is None
    assert problem.where == where
    assert says in problem.message
    assert remedy in problem.remedy
