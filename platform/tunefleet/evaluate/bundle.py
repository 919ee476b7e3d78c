"""Making a bundle: a plain Hugging Face folder, plus what is needed to trust and to ask it.

Decides the layout: weights (safetensors), config and tokenizer where ``from_pretrained``
looks for them; ``tunefleet/task.json`` says what the model answers, ``golden.*`` what it must
reproduce, ``bundle.json`` (written last) seals every byte under one digest. A bundle is read
back and proved against its golden batch before it is sealed. Imports ``api``, ``storage``,
``tasks`` and this package; torch only inside functions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from tunefleet.api.base import Document
from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec, SourceSpec
from tunefleet.api.tasks import TaskOptions, declaration_of, declarations
from tunefleet.api.words import Precision
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.evaluate.golden import SIDECAR, check_golden, check_tokens, make_golden
from tunefleet.evaluate.inputs import InputColumn, input_columns

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunefleet.tasks.contract import Task


class BundleTask(Document):
    """``tunefleet/task.json``: what the model answers, and how it is asked.

    ``columns`` are the inputs by their task's names; ``sources`` tells which column of the
    training data each of them was read from, ``delimiter`` and ``encoding`` how its files were
    written, so that a file of the same shape can be predicted.
    """

    version: Literal[1] = 1
    task: str
    options: dict[str, object]
    labels: list[str]
    max_length: int
    columns: list[InputColumn]
    sources: dict[str, str] = {}
    delimiter: str | None = None
    encoding: str = "utf-8"
    precision: Precision
    base_model: str

    def task_options(self) -> TaskOptions:
        """The task's options as it declares them."""
        return declaration_of(self.task).options.model_validate(self.options)


def build_bundle(
    folder: Path,
    *,
    task_name: str,
    task: Task,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    store: TokenStore,
    rows: Rows,
    precision: Precision,
    base_model: str,
    sources: Mapping[str, str] | None = None,
    written: SourceSpec | None = None,
) -> str:
    """Write a bundle of the evaluated ``model`` into ``folder``; returns its digest.

    ``model`` is merged and in fp32; ``store`` and ``rows`` are the validation split, from
    which the golden batch is taken. ``sources`` maps the task's columns to those of the data;
    ``written`` says how the files of the training data were written.
    A bundle that already stands in ``folder`` is replaced; anything else there is not touched.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=folder.parent, prefix=".bundle-"))
    try:
        draft.chmod(0o755)
        _save_model(draft, task, model, tokenizer)
        options = task.context.options
        facts = BundleTask(
            task=task_name,
            options=options.model_dump(mode="json", by_alias=True),
            labels=list(task.context.labels),
            max_length=task.context.max_length,
            columns=list(input_columns(declaration_of(task_name), options, rows.columns)),
            sources=dict(sources or {}),
            delimiter=written.delimiter if written else None,
            encoding=written.encoding if written else "utf-8",
            precision=precision,
            base_model=base_model,
        )
        sidecar = draft / SIDECAR
        sidecar.mkdir()
        (sidecar / "task.json").write_text(facts.to_json(indent=1), encoding="utf-8")
        make_golden(
            draft,
            task=task,
            model=model,
            tokenizer=tokenizer,
            store=store,
            rows=rows,
            precision=precision,
        )
        _prove(draft, task)
        for path in draft.rglob("*.safetensors"):
            # safetensors writes for the owner alone; a bundle is read by who may read its folder.
            path.chmod((sidecar / "task.json").stat().st_mode)
        digest = _seal(draft, facts)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return digest


def read_task(folder: Path) -> BundleTask:
    """``tunefleet/task.json`` of a bundle; raises ``ModelError``. Needs no torch."""
    path = folder / SIDECAR / "task.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} is no tunefleet bundle: {SIDECAR}/task.json is missing",
            remedy="name the folder that `tunefleet run` printed, or the job file",
        )
    try:
        facts = BundleTask.from_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path}: {place}: {first['msg']}",
            remedy="the bundle was written by another version of tunefleet, or edited by hand",
        ) from error
    if facts.task not in declarations():
        raise ModelError(
            f"{path}: this version of tunefleet has no task {facts.task!r}",
            remedy=f"known are {', '.join(declarations())}; install the version that made it",
        )
    return facts


def _save_model(
    folder: Path, task: Task, model: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> None:
    from tunefleet.tasks.models import quiet

    plain = cast("Any", model)
    labels = task.context.labels
    if labels:
        plain.config.id2label = dict(enumerate(labels))
        plain.config.label2id = {label: index for index, label in enumerate(labels)}
    with quiet():
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: the model wrote no safetensors file")


def _prove(folder: Path, task: Task) -> None:
    """Read the draft as a server would and compare it with what was evaluated."""
    check_tokens(folder, task, task.load_tokenizer(folder))
    check_golden(folder, task, task.load_model(folder, ModelSpec(uri=str(folder)), 0))


def _seal(folder: Path, facts: BundleTask) -> str:
    from tunefleet.storage.bundle import seal

    return seal(folder, {"task": facts.task, "baseModel": facts.base_model})


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SIDECAR).is_dir():
        raise ModelError(
            f"{folder} holds something that is no bundle; it was left as it is",
            remedy="name an empty or a new folder",
        )
