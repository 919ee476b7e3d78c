"""Prepare: everything that is found out before anything is spent.

Decides the facts a plan stands on: the model's files and sizes, the rows and their splits,
the token stores, whether the checkpoint store can be written. All that is wrong is raised
together. Facts are cached; a second call with nothing changed reads one file. Imports
``data``, ``storage`` and ``tasks``; torch and transformers only when facts are new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tunefleet.api.errors import DataError, Problem, StorageError, TunefleetError
from tunefleet.api.job import FineTuneJob, HeldOutSpec, SourceSpec
from tunefleet.api.support import in_store
from tunefleet.api.words import Severity
from tunefleet.data import model_files
from tunefleet.data.cache import digest_values
from tunefleet.data.check import class_counts
from tunefleet.data.model_files import ModelFolder
from tunefleet.data.rows import digest_rows, load_rows
from tunefleet.data.sources import Remote, uris
from tunefleet.data.splits import Reading, Splits, held_out_specs, read_splits
from tunefleet.data.tokenise import Tokenising
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.plan.facts import (
    DataFacts,
    Facts,
    Finding,
    ModelFacts,
    SplitFacts,
    StorageFacts,
)
from tunefleet.storage.bundle import open_bundle
from tunefleet.storage.copies import Copies
from tunefleet.storage.probe import probe
from tunefleet.storage.store import open_store
from tunefleet.train import prepared_before, units

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunefleet.tasks.contract import Task

Progress = Callable[[str, int, int], None]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Facts, and the rows of a split by its name (``train``, ``validation``, ``test``)."""

    facts: Facts
    rows: Callable[[str], Rows]


def prepare(
    job: FineTuneJob,
    base: Path,
    *,
    cache: Path,
    progress: Progress | None = None,
    model: ModelFolder | None = None,
) -> Prepared:
    """Find out the facts of a job. ``base``: the folder that relative paths start from.

    ``model`` replaces the job's model (for one that was looked up elsewhere). Raises
    ``DataError``, ``ModelError`` or ``StorageError`` with all problems at once.
    """
    return _Preparation(job, base.resolve(), cache.absolute(), progress or _quiet, model).go()


def _quiet(stage: str, done: int, total: int) -> None:
    pass


class _Preparation:
    """One call of :func:`prepare`."""

    def __init__(
        self,
        job: FineTuneJob,
        base: Path,
        cache: Path,
        progress: Progress,
        model: ModelFolder | None,
    ) -> None:
        self._job = job
        self._spec = job.spec
        self._base = base
        self._cache = cache
        self._progress = progress
        self._model = model
        self._began = time.monotonic()
        self._columns = self._spec.declaration.columns(self._spec.options)
        self._copies = Copies(cache, progress)
        self._remote: Remote | None = None

    def go(self) -> Prepared:
        errors: list[TunefleetError] = []
        folder = _attempt(self._find_model, errors)
        self._remote = _attempt(self._fetch, errors)
        key = prepared_before.key(self._job, self._base, folder, self._remote)
        known = prepared_before.read(self._cache, key)
        if known is not None:
            storage = self._probe(known.storage)
            return self._prepared(known.model_copy(update={"storage": storage}))
        storage_facts = _attempt(self._probe, errors)
        splits = _attempt(self._read, errors) if self._remote is not None else None
        _raise(errors)
        assert folder is not None
        assert storage_facts is not None
        assert splits is not None
        if self._spec.model.from_ is not None:
            open_bundle(folder.path)
        try:
            facts = self._facts(folder, splits, storage_facts)
            prepared_before.write(self._cache, key, facts)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"prepared data cannot be kept in {self._cache}: {reason}",
                remedy="make room there, or set TUNEFLEET_CACHE to another folder",
            ) from error
        return self._prepared(facts)

    def _prepared(self, facts: Facts) -> Prepared:
        """What was found out, and what could not be looked up anew this time."""
        notes = [
            Finding(
                severity=Severity.WARNING,
                code="not looked up",
                message=note,
                remedy="run again when the store can be reached, if it may have changed",
            )
            for note in self._copies.notes
        ]
        data = facts.data.model_copy(update={"findings": [*notes, *facts.data.findings]})
        return prepared_from(facts.model_copy(update={"data": data}))

    # -- the parts ----------------------------------------------------------------------

    def _find_model(self) -> ModelFolder:
        folder = (
            self._model
            or self._fetched_model()
            or model_files.find_model(self._spec.model, self._base)
        )
        model_files.check_model(folder.path)
        return folder

    def _fetched_model(self) -> ModelFolder | None:
        """The copy of a model that lies in an object store; None for any other."""
        model = self._spec.model
        location = model.from_.bundle if model.from_ is not None else model.uri
        if location is None or not in_store(location):
            return None
        skip = () if model.from_ is not None else model_files.PICKLES
        return ModelFolder(self._copies.folder(location, skip), location)

    def _fetch(self) -> Remote:
        """Copies of the data that lies in object stores, by its uri."""
        data = self._spec.data
        specs: list[SourceSpec | HeldOutSpec] = [data.train, *held_out_specs(data).values()]
        named = [uri for spec in specs for uri in uris(spec)]
        return {
            uri: [(copy.path, copy.uri) for copy in self._copies.files(uri)]
            for uri in named
            if in_store(uri)
        }

    def _probe(self, before: StorageFacts | None = None) -> StorageFacts:
        found = probe(open_store(self._spec.checkpoints.uri, self._base))
        if before is None or before.uri != found.uri:
            return found
        # A speed measured anew would move the checkpoint interval of an unchanged job.
        speed = before.write_bytes_per_second
        return found.model_copy(update={"write_bytes_per_second": speed})

    def _read(self) -> Splits:
        options = self._spec.options
        separator = getattr(options, "label_separator", "|")
        reading = Reading(
            columns=self._columns,
            labelled=self._spec.declaration.labelled(options),
            separator=str(separator),
            seed=self._spec.training.seed,
        )
        return read_splits(self._spec.data, self._base, reading, self._progress, self._remote)

    # -- facts --------------------------------------------------------------------------

    def _facts(self, folder: ModelFolder, splits: Splits, storage: StorageFacts) -> Facts:
        model = self._model_facts(folder, splits)
        tokenizer = self._task(splits, units.LENGTH_CAP).load_tokenizer(folder.path)
        template = bool(getattr(tokenizer, "chat_template", None))
        model = model.model_copy(update={"chat_template": template})
        limit, reason = units.length_limit(
            self._spec.training.max_length, model.max_positions, tokenizer.model_max_length
        )
        task = self._task(splits, limit)
        stores = self._tokenise(folder, splits, task, tokenizer, model.tokenizer_digest)
        head = model_files.head_findings(model_files.check_model(folder.path), splits.labels)
        findings = [*splits.findings, *head, *self._findings(stores, splits, model, limit)]
        parts = {
            name: _split_facts(rows, stores[name], splits) for name, rows in splits.rows.items()
        }
        if self._spec.training.max_length is None:
            limit, reason = units.settled_length(
                limit, reason, [s.longest for s in stores.values()]
            )
        return Facts(
            task=self._spec.task,
            max_length=limit,
            max_length_reason=reason,
            model=model,
            data=DataFacts(
                digest="sha256:"
                + digest_values({n: p.digest for n, p in parts.items()}, splits.labels),
                labels=list(splits.labels),
                columns=splits.columns,
                files=list(splits.files),
                train=parts["train"],
                validation=parts["validation"],
                test=parts.get("test"),
                findings=findings,
            ),
            storage=storage,
            seconds=round(time.monotonic() - self._began, 3),
        )

    def _task(self, splits: Splits, limit: int) -> Task:
        from tunefleet.tasks import task_of
        from tunefleet.tasks.contract import TaskContext

        context = TaskContext(self._spec.options, splits.labels, limit)
        return task_of(self._spec.task, context)

    def _model_facts(self, folder: ModelFolder, splits: Splits) -> ModelFacts:
        from tunefleet.train.skeleton import measure

        self._progress("model", 0, 1)
        tensors = model_files.read_headers(folder.path)
        kind = self._task(splits, units.LENGTH_CAP).model_kind()
        declaration = self._spec.declaration
        sizes = measure(folder.path, self._spec.model, declaration, kind, tensors.keys())
        digests = model_files.digest_model(folder.path, self._cache)
        facts = ModelFacts(
            source=folder.source,
            revision=folder.revision,
            path=str(folder.path),
            digest=digests.model,
            architecture=sizes.architecture,
            model_type=sizes.model_type,
            parameters=sizes.parameters,
            trainable_parameters=sizes.trainable_parameters,
            largest_parameter=sizes.largest_parameter,
            hidden_size=sizes.hidden_size,
            layers=sizes.layers,
            attention_heads=sizes.attention_heads,
            intermediate_size=sizes.intermediate_size,
            vocab_size=sizes.vocab_size,
            max_positions=sizes.max_positions,
            tied_embeddings=sizes.tied_embeddings,
            head_outputs=kind.outputs,
            tokenizer_digest=digests.tokenizer,
        )
        self._progress("model", 1, 1)
        return facts

    # -- tokens -------------------------------------------------------------------------

    def _tokenise(
        self,
        folder: ModelFolder,
        splits: Splits,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_digest: str,
    ) -> dict[str, TokenStore]:
        from tunefleet.tasks.batch import padding_of

        tokenising = Tokenising(
            encoder=task,
            tokenizer=tokenizer,
            model_path=folder.path,
            padding=padding_of(tokenizer),
        )
        stores: dict[str, TokenStore] = {}
        problems: list[Problem] = []
        total = sum(len(rows) for rows in splits.rows.values())
        done = 0
        for name, rows in splits.rows.items():
            before = done

            def tell(rows_done: int, before: int = before) -> None:
                self._progress("tokenising", before + rows_done, total)

            content = digest_values(
                digest_rows(rows),
                tokenizer_digest,
                self._spec.task,
                self._spec.options.model_dump(mode="json"),
                splits.labels,
                task.context.max_length,
                prepared_before.code_digest(),
                rows.files,
            )
            folder_of_split = self._cache / "tokens" / content[:32]
            try:
                stores[name] = tokenising.store(rows, folder_of_split, tell)
            except ValueError as error:
                problems += [Problem(line) for line in str(error).splitlines()]
            done += len(rows)
            tell(len(rows))
        if problems:
            raise DataError("these rows cannot be trained on:", problems=problems)
        return stores

    def _findings(
        self,
        stores: Mapping[str, TokenStore],
        splits: Splits,
        model: ModelFacts,
        limit: int,
    ) -> list[Finding]:
        findings: list[Finding] = []
        for name, store in stores.items():
            findings += units.check_units(name, store, splits.rows[name], model.vocab_size, limit)
        return findings


def _split_facts(rows: Rows, store: TokenStore, splits: Splits) -> SplitFacts:
    import numpy as np

    lengths, counts = np.unique(store.lengths, return_counts=True)
    column = splits.label_column
    values = rows.columns[column.name] if column is not None else []
    return SplitFacts(
        rows=len(rows),
        units=len(store),
        tokens=int(store.offsets[-1]),
        weight=int(store.weights.sum()),
        truncated=store.truncated,
        lengths=[[int(n), int(c)] for n, c in zip(lengths, counts, strict=True)],
        classes=class_counts(values, splits.labels) if splits.labels else {},
        store=str(store.folder),
        digest="sha256:" + digest_rows(rows),
    )


def prepared_from(facts: Facts) -> Prepared:
    """Facts with the rows that stand beside their token stores on this machine."""
    splits = facts.data.splits

    def rows(name: str) -> Rows:
        found = splits.get(name)
        if found is None:
            raise KeyError(f"this job has no {name} rows")
        return load_rows(Path(found.store))

    return Prepared(facts, rows)


def _attempt(step: Callable[[], Found], errors: list[TunefleetError]) -> Found | None:
    try:
        return step()
    except TunefleetError as error:
        errors.append(error)
        return None


def _raise(errors: list[TunefleetError]) -> None:
    """Raise what was found: one error as it is, several as one with all their problems."""
    if len(errors) < 2:
        for error in errors:
            raise error
        return
    problems: list[Problem] = []
    for error in errors:
        problems += error.problems or [Problem(error.message, remedy=error.remedy)]
    raise type(errors[0])("nothing was started; this has to be mended first:", problems=problems)
