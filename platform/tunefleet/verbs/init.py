"""``init``: looks at a data file and writes a short, commented job file for it.

Decides the text of the file: what was guessed stands in it, what may be wanted next stands
in comments. What is written has been read back by the same code that ``run`` uses. Never
overwrites unless told to. Imports ``api`` and its siblings.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import SpecError
from tunefleet.api.job import API_VERSION
from tunefleet.api.tasks import declaration_of
from tunefleet.verbs.guess import Guess, Why, guess
from tunefleet.verbs.jobfile import is_ambiguous, parse
from tunefleet.verbs.locate import scalar_value
from tunefleet.verbs.look import Sample, look

_MANY_LANGUAGES = "FacebookAI/xlm-roberta-base"
_FEW_ROWS = 1000
_HELD_OUT = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True, slots=True)
class Written:
    """The job file that was written, and what its values rest on."""

    path: Path
    text: str
    rows: int
    complete: bool
    columns: tuple[str, ...]
    format: str
    why: tuple[Why, ...]

    def __str__(self) -> str:
        rows = f"{self.rows:,} rows" if self.complete else f"the first {self.rows:,} rows"
        lines = [f"looked at {rows} of {', '.join(self.columns)}"]
        width = max(len(why.what) for why in self.why)
        lines += [f"  {why.what:<{width}}  {why.value}  ({why.reason})" for why in self.why]
        lines += [f"wrote {self.path}", f"next: tunefleet check {self.path}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(why.what)}</td><td><b>{html.escape(why.value)}</b></td>"
            f"<td>{html.escape(why.reason)}</td></tr>"
            for why in self.why
        )
        name = html.escape(str(self.path))
        return f"<table>{rows}</table><p><code>{name}</code></p><pre>{html.escape(self.text)}</pre>"


def init(
    data: str | Path, out: str | Path = "job.yaml", *, force: bool = False, model: str | None = None
) -> Written:
    """Write a job file for a data file.

    Raises ``DataError`` when the file cannot be read or learned from, ``SpecError`` when
    ``out`` exists (and ``force`` is not given) or cannot be written.
    """
    source, target = Path(data), Path(out)
    _check_target(target, force)
    sample = look(source)
    guessed = guess(sample)
    chosen, why = _model(guessed, model)
    text = _text(sample, guessed, chosen, target)
    parse(text, str(target))
    _write(target, text, force)
    return Written(
        target,
        text,
        sample.rows,
        sample.complete,
        tuple(sample.columns),
        sample.format,
        (*guessed.why, *_label_why(guessed), why),
    )


def _check_target(target: Path, force: bool) -> None:
    if target.is_dir():
        raise SpecError(f"{target} is a folder", remedy="name a file: --out job.yaml")
    if target.exists() and not force:
        raise SpecError(
            f"{target} exists already",
            remedy="name another file with --out, or replace it with --force",
        )
    if not target.absolute().parent.is_dir():
        raise SpecError(f"there is no folder {target.parent}", remedy="make it first")


def _write(target: Path, text: str, force: bool) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        if force:
            draft.replace(target)
        else:
            # A link is refused when the name was taken meanwhile; replace would not be.
            os.link(draft, target)
    except FileExistsError:
        raise SpecError(f"{target} exists already", remedy="replace it with --force") from None
    except OSError as error:
        raise SpecError(f"cannot write {target}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _model(guessed: Guess, given: str | None) -> tuple[str, Why]:
    if given is not None:
        return given, Why("model", given, "as you asked")
    if guessed.foreign and guessed.task == "text-classification":
        return _MANY_LANGUAGES, Why("model", _MANY_LANGUAGES, "the texts are not all English")
    name = declaration_of(guessed.task).example_model
    return name, Why("model", name, "small and usual for this task; any other will do")


def _label_why(guessed: Guess) -> tuple[Why, ...]:
    if not guessed.labels:
        return ()
    return (Why("labels", ", ".join(guessed.labels), "every value in the file, in this order"),)


# -- the text ------------------------------------------------------------------------------


def _text(sample: Sample, guessed: Guess, model: str, target: Path) -> str:
    lines = [
        f"# Written by `tunefleet init {sample.path.name}`. Look it over, then:",
        "#   tunefleet check JOB   looks for mistakes before anything is spent",
        "#   tunefleet run JOB     trains; run it again to go on where it stopped",
        f"apiVersion: {API_VERSION}",
        "kind: FineTuneJob",
        "metadata:",
        f"  name: {_slug(sample.path.stem)}",
        "spec:",
        f"  task: {guessed.task}",
        *_options(guessed),
        *_model_lines(model),
        "  data:",
        *_data_lines(sample, guessed, target),
        *_training_lines(sample, guessed),
    ]
    return "\n".join(lines).replace(" JOB ", f" {_printable(target)} ") + "\n"


def _printable(target: Path) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in target.name)


def _slug(stem: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", stem.casefold()).strip("-")[:50].strip("-")
    return quoted(slug) if slug else "my-job"


def quoted(value: str) -> str:
    """A text as YAML: plain where every reader takes it for text, in quotes otherwise."""
    safe = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./+ -]*", value) and not value.endswith(" ")
    if safe and isinstance(scalar_value(value), str) and not is_ambiguous(value):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def _flow(items: Sequence[str]) -> str:
    return f"[{', '.join(quoted(item) for item in items)}]"


def _options(guessed: Guess) -> list[str]:
    if not guessed.options:
        return []
    name = declaration_of(guessed.task).field_name
    body = ", ".join(f"{key}: {quoted(str(value))}" for key, value in guessed.options.items())
    return [f"  {name}: {{{body}}}"]


def _model_lines(model: str) -> list[str]:
    is_folder = Path(model).is_dir()
    given = f"uri: {quoted(str(Path(model).absolute()))}" if is_folder else f"name: {quoted(model)}"
    return [
        "  model:",
        f"    {given}",
        "    # method: {type: lora, lora: {rank: 8}}     # trains a small part of the weights",
    ]


def _source(sample: Sample, path: Path, target: Path) -> str:
    parts = [f"uri: {quoted(_relative(path, target))}"]
    if not sample.ending_tells:
        parts.append(f"format: {sample.format}")
    if sample.delimiter is not None:
        parts.append(f"delimiter: {json.dumps(sample.delimiter)}")
    if sample.encoding is not None:
        parts.append(f"encoding: {sample.encoding}")
    return f"{{{', '.join(parts)}}}"


def _relative(path: Path, target: Path) -> str:
    try:
        return Path(os.path.relpath(path.absolute(), target.absolute().parent)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def _data_lines(sample: Sample, guessed: Guess, target: Path) -> list[str]:
    lines = [f"    train: {_source(sample, sample.path, target)}"]
    held_out = {split: _sibling(sample.path, names) for split, names in _HELD_OUT.items()}
    validation = held_out["validation"]
    if validation is not None:
        lines.append(f"    validation: {_source(sample, validation, target)}")
    else:
        fraction = 0.2 if sample.complete and sample.rows < _FEW_ROWS else 0.1
        lines.append(f"    validation: {{fraction: {fraction}}}     # held out of the rows above")
        if guessed.group is not None:
            lines.append(
                f"    # validation: {{fraction: {fraction}, groupBy: {quoted(guessed.group)}}}"
                f"     # all rows of one {_comment(guessed.group)} on one side"
            )
    if held_out["test"] is not None:
        lines.append(f"    test: {_source(sample, held_out['test'], target)}")
    else:
        lines.append("    # test: {fraction: 0.1}     # looked at once, at the end")
    mapped = ", ".join(f"{key}: {quoted(name)}" for key, name in guessed.columns.items())
    lines.append(f"    columns: {{{mapped}}}     # what the task reads: your column")
    if guessed.labels:
        lines.append(f"    labels: {_flow(guessed.labels)}")
    return lines


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _sibling(path: Path, names: Sequence[str]) -> Path | None:
    """``test.csv`` beside ``train.csv``."""
    if "train" not in path.stem:
        return None
    for name in names:
        found = path.with_name(path.name.replace("train", name, 1))
        if found.is_file():
            return found
    return None


def _training_lines(sample: Sample, guessed: Guess) -> list[str]:
    batch = 16 if sample.complete and sample.rows < 5 * _FEW_ROWS else 32
    rate = "2.0e-5" if guessed.task == "text-classification" else "5.0e-5"
    metric = declaration_of(guessed.task)
    options = metric.options.model_validate(guessed.options, by_alias=True)
    return [
        "  training:",
        "    epochs: 3",
        f"    batchSize: {batch}     # samples per step, whatever the number of workers",
        f"    optimizer: {{learningRate: {rate}}}",
        "    # maxLength: 256     # tokens; longer texts are cut",
        "  # evaluation: {earlyStopping: {metric: "
        f"{metric.primary_metric(options)}, patience: 3}}}}",
    ]
