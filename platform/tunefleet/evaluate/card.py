"""The bundle's model card: ``README.md`` as the Hugging Face hub reads it.

Decides what is claimed about the model: what was trained on what, with which result, and what
nobody has looked at. Nothing is claimed that is not known (no language, no licence), no text
of a row and no folder of this machine is put in. Imports ``api``, records, huggingface_hub.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tunefleet.evaluate import words
from tunefleet.evaluate.content import Kind
from tunefleet.evaluate.howto import model_name, python_snippet
from tunefleet.evaluate.scored import kind_of
from tunefleet.evaluate.sections import digests, settings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from tunefleet.evaluate.report import ReportData

_MOST_LABELS = 50

# Names under which the hub files a metric; others go by their own name.
_HUB_METRICS = {
    "f1_macro": "f1",
    "f1_micro": "f1",
    "mcc": "matthews_correlation",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
}
_PIPELINES = {
    "text-classification": "text-classification",
    "causal-lm": "text-generation",
}


def write_card(data: ReportData, bundle_folder: Path) -> Path:
    """Write ``README.md`` into the bundle; returns its path.

    The bundle's digest leaves the card out, so that it can hold times and costs.
    """
    target = bundle_folder / "README.md"
    target.write_text(card(data), encoding="utf-8")
    return target


def card(data: ReportData) -> str:
    """The card's text, metadata first."""
    kind = kind_of(data.scores[data.split]) if data.scores.get(data.split) else "other"
    parts = [
        f"---\n{_metadata(data)}\n---",
        f"# {_plain(data.result.job)}",
        _introduction(data),
        "## Results\n\n" + _results(data),
        "## Intended use and limits\n\n" + _limits(data, kind),
        "## How to use\n\n" + _usage(data, kind),
        "## Training data\n\n" + _training_data(data),
        "## Training\n\n" + _training(data),
        "## Reproducibility\n\n" + _reproducibility(data),
    ]
    return "\n\n".join(parts) + "\n"


# -- metadata --------------------------------------------------------------------------------


def _metadata(data: ReportData) -> str:
    from huggingface_hub import ModelCardData

    spec = data.job.spec
    hub = spec.data.train.hub
    after = data.result.splits[data.split].after if data.split in data.result.splits else {}
    found = ModelCardData(
        base_model=spec.model.name,
        base_model_relation="finetune" if spec.model.name else None,
        datasets=[hub.name] if hub else None,
        library_name="transformers",
        metrics=sorted({_HUB_METRICS.get(name, name) for name in after}) or None,
        pipeline_tag=_PIPELINES.get(data.result.task),
        tags=["tunefleet", "generated_from_tunefleet", data.result.task],
        model_name=data.result.job,
        eval_results=_eval_results(data, after) or None,
    )
    return str(found.to_yaml()).strip()


def _eval_results(data: ReportData, after: dict[str, float]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    hub = data.job.spec.data.train.hub
    names = ", ".join(PurePath(file).name for file in data.facts.data.files[:3])
    declared = {m.name: m for m in data.job.spec.declaration.metrics(data.job.spec.options)}
    task = _PIPELINES.get(data.result.task, data.result.task)
    return [
        EvalResult(
            task_type=task,
            dataset_type=hub.name if hub else "text",
            dataset_name=hub.name if hub else (names or "own rows"),
            dataset_config=hub.config if hub else None,
            dataset_split=data.split,
            dataset_revision=hub.revision if hub else None,
            metric_type=_HUB_METRICS.get(name, name),
            metric_value=round(value, 6),
            metric_name=f"{name} ({declared[name].help})"
            if name in declared and declared[name].help
            else name,
        )
        for name, value in after.items()
    ]


# -- text --------------------------------------------------------------------------------------


def _introduction(data: ReportData) -> str:
    spec = data.job.spec
    base = _plain(model_name(data.job, data.facts))
    named = f"[{base}](https://huggingface.co/{base})" if spec.model.name else f"`{base}`"
    method = {"full": "all weights were trained"}.get(
        spec.model.method.type, "a low-rank adapter (LoRA) was trained and merged into the weights"
    )
    return (
        f"{named}, fine-tuned to {spec.declaration.summary} on "
        f"{data.facts.data.train.rows:,} rows; {method}."
    )


def _results(data: ReportData) -> str:
    lines = []
    for split, result in sorted(data.result.splits.items(), key=lambda i: i[0] != data.split):
        lines.append(f"On {result.units:,} {split} rows{_split_caveat(split)}:")
        rows = [
            (name, words.metric(result.before.get(name)), words.metric(value))
            for name, value in result.after.items()
        ]
        lines.append(_table(("metric", "before", "after"), rows))
    if data.result.gate:
        gate = data.result.gate
        passed = "reached" if gate.passed else "not reached"
        lines.append(f"Gate: {gate.metric} {gate.bound} was {passed} ({words.metric(gate.value)}).")
    return "\n\n".join(lines) or "No split was scored."


def _split_caveat(split: str) -> str:
    if split == "test":
        return ", looked at once, after training"
    return ", which also chose the best checkpoint, so expect a little less on new data"


def _limits(data: ReportData, kind: Kind) -> str:
    part = data.facts.data.train
    lines = [
        "The model was measured on rows of the same origin as its training rows. "
        "How it does on other sources, languages, groups of people or times is not known.",
        f"Texts are cut to {data.facts.max_length:,} tokens; {part.truncated:,} of "
        f"{part.units:,} training units were cut.",
    ]
    if kind in ("single-label", "multi-label"):
        lines.append(
            "It always answers from its own labels, also for a text that belongs to none of them."
        )
    if kind == "language-model":
        lines.append("It can state things that are false, and repeat what its training rows hold.")
    lines.append("Biases of the base model and of the rows have not been measured.")
    return "\n".join(f"- {line}" for line in lines)


def _usage(data: ReportData, kind: Kind) -> str:
    snippet = python_snippet("path/to/this/folder", kind)
    return f"```python\n{snippet}\n```\n\nOr `tunefleet serve path/to/this/folder`."


def _training_data(data: ReportData) -> str:
    facts = data.facts.data
    files = ", ".join(f"`{_plain(PurePath(file).name)}`" for file in facts.files[:20])
    splits = [("train", facts.train), ("validation", facts.validation)]
    if facts.test is not None:
        splits.append(("test", facts.test))
    rows = [(name, f"{p.rows:,}", f"{p.units:,}", f"{p.tokens:,}") for name, p in splits]
    lines = [f"From {files}." if files else "", _table(("split", "rows", "units", "tokens"), rows)]
    if facts.labels:
        named = ", ".join(_plain(label) for label in facts.labels[:_MOST_LABELS])
        more = len(facts.labels) - _MOST_LABELS
        lines.append(f"Labels: {named}{f' and {more} more' if more > 0 else ''}.")
    return "\n\n".join(line for line in lines if line)


def _training(data: ReportData) -> str:
    result = data.result
    rows = [(item.name, item.value) for item in settings(data.job, data.plan)]
    cost = words.money(result.cost_microdollars)
    spent = f"{words.duration(result.wall_seconds)} on the wall clock, cost: {cost}"
    ended = ", ended by early stopping" if result.stopped_early else ""
    head = f"{result.steps:,} of {result.total_steps:,} optimiser steps{ended}; {spent}."
    return f"{head}\n\n{_table(('setting', 'value'), rows)}"


def _reproducibility(data: ReportData) -> str:
    rows = [(name, f"`{digest}`") for name, digest in digests(data.plan, data.result).items()]
    rows += [(name, value) for name, value in data.result.environment.items()]
    return _table(("what", "value"), rows) + "\n\nMade with tunefleet."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text)


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    flat = " ".join(text.split())
    return html.escape(flat, quote=False).replace("|", "\\|").replace("[", "\\[")
