"""Wrong jobs and the same ones mended: what the rules of the language are tried with.

Decides nothing: a table. Each case replaces fields of a job that is right; the first part breaks
one rule, the second keeps the same rule while it still looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping

Values = Mapping[str, object]

STORE = "s3://bucket/rows.csv"

RIGHT: dict[str, object] = {
    "task": "text-classification",
    "model": {"name": "google-bert/bert-base-uncased"},
    "data": {"train": {"uri": STORE}},
    "checkpoints": {"uri": "s3://bucket/models"},
}
HUB = {"hub": {"name": "imdb"}}
FILES = {"uri": STORE}


def rows(part: str, value: Values) -> Values:
    """A job whose train, validation or test rows are these."""
    return {"data": {"train": FILES, part: value}}


def _sources(part: str) -> dict[str, tuple[Values, Values]]:
    sources: dict[str, tuple[Values, Values]] = {
        "no source": ({}, FILES),
        "files and a hub data set": ({**FILES, **HUB}, HUB),
        "a format without files": ({**HUB, "format": "csv"}, {**FILES, "format": "csv"}),
        "an encoding without files": (
            {**HUB, "encoding": "cp1252"},
            {**FILES, "encoding": "cp1252"},
        ),
        "a delimiter without files": ({**HUB, "delimiter": ";"}, {**FILES, "delimiter": ";"}),
        "an encoding of parquet": (
            {**FILES, "format": "parquet", "encoding": "cp1252"},
            {**FILES, "format": "csv", "encoding": "cp1252"},
        ),
        "a delimiter of json": (
            {**FILES, "format": "json", "delimiter": ";"},
            {**FILES, "format": "csv", "delimiter": ";"},
        ),
        "a quote as a delimiter": ({**FILES, "delimiter": '"'}, {**FILES, "delimiter": "'"}),
        "a location on one machine": ({"uri": "rows.csv"}, {"uri": "gs://bucket/rows-*.csv"}),
    }
    if part != "train":
        sources |= {
            "files and a fraction": ({**FILES, "fraction": 0.1}, {"fraction": 0.1}),
            "a hub data set and a fraction": ({**HUB, "fraction": 0.1}, HUB),
            "groups without a fraction": (
                {**FILES, "groupBy": "customer"},
                {"fraction": 0.1, "groupBy": "customer"},
            ),
        }
    return {
        f"{part}: {name}": (rows(part, wrong), rows(part, right))
        for name, (wrong, right) in sources.items()
    }


def _model(wrong: Values, right: Values) -> tuple[Values, Values]:
    return {"model": wrong}, {"model": right}


def _training(wrong: Values, right: Values) -> tuple[Values, Values]:
    return {"training": wrong}, {"training": right}


def _optimizer(wrong: Values, right: Values) -> tuple[Values, Values]:
    return _training({"optimizer": wrong}, {"optimizer": right})


def _options(wrong: Values, right: Values) -> tuple[Values, Values]:
    return {"textClassification": wrong}, {"textClassification": right}


def _chat(wrong: Values, right: Values) -> tuple[Values, Values]:
    task = {"task": "causal-lm"}
    return {**task, "causalLm": wrong}, {**task, "causalLm": right}


def _mlflow(wrong: str, right: str) -> tuple[Values, Values]:
    tracker = {"experiment": "reviews"}
    return (
        {"tracking": {"mlflow": {**tracker, "uri": wrong}}},
        {"tracking": {"mlflow": {**tracker, "uri": right}}},
    )


NAME = {"name": "a"}
TUNED = {"from": {"bundle": "s3://b/b"}}
CASES: dict[str, tuple[Values, Values]] = {
    "no model": _model({}, NAME),
    "a hub model and a folder": _model({**NAME, "uri": "s3://b/m"}, {"uri": "s3://b/m"}),
    "a hub model and a tuned one": _model({**NAME, **TUNED}, TUNED),
    "a folder and a tuned one": _model({"uri": "s3://b/m", **TUNED}, TUNED),
    "a revision of a folder": _model(
        {"uri": "s3://b/m", "revision": "v1"}, {**NAME, "revision": "v1"}
    ),
    "a model's folder on one machine": _model({"uri": "/models/m"}, {"uri": "az://c/m"}),
    "a bundle on one machine": _model(
        {"from": {"bundle": "file:///b"}}, {"from": {"bundle": "s3://b/b"}}
    ),
    "going on from nothing": _model({"from": {}}, TUNED),
    "going on from two": _model({"from": {"job": "x", "bundle": "s3://b/b"}}, TUNED),
    "going on from itself": _model({"from": {"job": "made"}}, {"from": {"job": "other"}}),
    "adapters of full training": _model(
        {**NAME, "method": {"type": "full", "lora": {}}},
        {**NAME, "method": {"type": "lora", "lora": {}}},
    ),
    **_sources("train"),
    **_sources("validation"),
    **_sources("test"),
    "nothing left to train on": (
        {"data": {"train": FILES, "validation": {"fraction": 0.5}, "test": {"fraction": 0.5}}},
        {"data": {"train": FILES, "validation": {"fraction": 0.4}, "test": {"fraction": 0.5}}},
    ),
    "epochs and steps": _training({"epochs": 1, "maxSteps": 2}, {"maxSteps": 2}),
    "a micro-batch above the batch": _training(
        {"batchSize": 8, "microBatch": 16}, {"batchSize": 8, "microBatch": 8}
    ),
    "a warm-up of every step": _training(
        {"maxSteps": 9, "optimizer": {"warmup": 9}}, {"maxSteps": 9, "optimizer": {"warmup": 8}}
    ),
    "a warm-up of two and a half steps": _optimizer({"warmup": 2.5}, {"warmup": 2}),
    "betas of sgd": _optimizer({"name": "sgd", "betas": [0.9, 0.99]}, {"betas": [0.9, 0.99]}),
    "an epsilon of sgd": _optimizer({"name": "sgd", "epsilon": 1e-8}, {"epsilon": 1e-8}),
    "a momentum of adamw": _optimizer({"momentum": 0.9}, {"name": "sgd", "momentum": 0.9}),
    "stopping by one metric, choosing by another": (
        {"evaluation": {"metric": "accuracy", "earlyStopping": {"metric": "mcc"}}},
        {"evaluation": {"metric": "mcc", "earlyStopping": {"metric": "mcc"}}},
    ),
    "tracking by nobody": ({"tracking": {}}, {"tracking": {"tensorboard": False}}),
    "no MLflow server": _mlflow("ftp://host", "HTTPS://host:5000/path"),
    "a password for MLflow": _mlflow("postgresql://u:p@host/db", "postgresql://u@host/db"),
    "a user of an MLflow server": _mlflow("https://u@host", "https://host/u@x"),
    "options of another task": (
        {"causalLm": {}},
        {"task": "causal-lm", "causalLm": {}},
    ),
    "options of yet another task": (
        {"task": "causal-lm", "textClassification": {}},
        {"textClassification": {}},
    ),
    "a threshold of one label": _options(
        {"threshold": 0.3}, {"problem": "multi-label", "threshold": 0.3}
    ),
    "a separator of one label": _options(
        {"labelSeparator": ";"}, {"problem": "multi-label", "labelSeparator": ";"}
    ),
    "a smoothed regression": _options(
        {"problem": "regression", "labelSmoothing": 0.1}, {"labelSmoothing": 0.1}
    ),
    "turns of an instruction": _chat(
        {"supervise": "last-turn"}, {"format": "chat", "supervise": "last-turn"}
    ),
    "a chat template of plain text": _chat(
        {"format": "text", "chatTemplate": "x"}, {"format": "chat", "chatTemplate": "x"}
    ),
    "a number of workers and a range": (
        {"workers": {"count": 2, "min": 1, "max": 3}},
        {"workers": {"min": 1, "max": 3}},
    ),
    "a range without its end": ({"workers": {"min": 1}}, {"workers": {"min": 1, "max": 1}}),
    "a range the wrong way round": (
        {"workers": {"min": 3, "max": 1}},
        {"workers": {"min": 1, "max": 3}},
    ),
    "no place for the runs": ({"checkpoints": {}}, {"checkpoints": {"uri": "s3://b"}}),
    "runs on one machine": ({"checkpoints": {"uri": "runs"}}, {"checkpoints": {"uri": "gs://b"}}),
}
"""Name → a job that breaks one rule, and the job that keeps it."""
