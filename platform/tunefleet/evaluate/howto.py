"""How to go on after a run: the commands and the lines of Python that use the bundle.

Decides what is shown; quotes what a shell would read otherwise. Imports ``api`` and records.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath

from tunefleet.api.job import FineTuneJob
from tunefleet.evaluate.content import Commands, Kind
from tunefleet.evaluate.result import RunResult
from tunefleet.plan.facts import Facts


def model_name(job: FineTuneJob, facts: Facts) -> str:
    """The base model as people call it: its hub name, or the last part of its folder."""
    if job.spec.model.name:
        return job.spec.model.name
    return PurePath(facts.model.source).name or facts.model.architecture


def commands(job: FineTuneJob, result: RunResult, kind: Kind) -> Commands | None:
    """Commands for the run's bundle; None when it made none."""
    if result.bundle is None:
        return None
    place = result.bundle.path or result.bundle.uri
    return Commands(
        predict=f"tunefleet predict {shlex.quote(place)} --text {shlex.quote(_example(job, kind))}",
        serve=f"tunefleet serve {shlex.quote(place)}",
        python=python_snippet(place, kind),
    )


def python_snippet(place: str, kind: Kind) -> str:
    """Loading the bundle with transformers alone."""
    causal = kind == "language-model"
    pipeline = "text-generation" if causal else "text-classification"
    lines = ["from transformers import pipeline", ""]
    lines.append(f'model = pipeline("{pipeline}", model={place!r})')
    call = {
        "language-model": 'model("Write a haiku about rain.")',
        "multi-label": 'model("A text.", top_k=None)  # a probability for every label',
        "regression": 'model("A text.", function_to_apply="none")',
    }.get(kind, 'model("A text.")')
    return "\n".join([*lines, call])


def _example(job: FineTuneJob, kind: Kind) -> str:
    return "What is a good name for a cat?" if kind == "language-model" else "A text to label."
