"""The golden batch: a few held-out units and what the evaluated model said about them.

Decides what a copy of a model must reproduce before it may answer anybody: the tokens of a
few real rows, and teacher-forced outputs within a tolerance per precision. A bundle that was
damaged, mixed up, or loaded by a library that computes something else does not pass.
Imports torch, ``api``, ``data`` and the task contract.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from tunefleet.api.base import Document
from tunefleet.api.errors import ModelError
from tunefleet.api.words import Precision
from tunefleet.data.tokens import Rows, TokenStore

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunefleet.tasks.contract import Batch, Task

SIDECAR = "tunefleet"
UNITS = 8
_MAX_TOKENS = 2048
_MAX_ROW_BYTES = 65_536

# Both are used as |difference| <= tolerance + tolerance * |expected|. In fp32 the same weights
# differ by the order of additions alone (another device, another thread count): some 1e-6 on
# logits, and up to 1e-5 over deep models, so 1e-4 is ten times that and still far below the
# effect of a wrong weight. bf16 keeps 8 bits of mantissa (4e-3 per rounding), which adds up
# over layers; a bf16 bundle is also served in fp32 where a device computes no bf16.
_TOLERANCE = {Precision.FP32: 1e-4, Precision.FP64: 1e-4, Precision.BF16: 5e-2}
_REASON = {
    Precision.FP32: "fp32: ten times the effect of another order of additions",
    Precision.FP64: "fp32: ten times the effect of another order of additions",
    Precision.BF16: "bf16: eight bits of mantissa, added up over layers",
}


class Golden(Document):
    """``tunefleet/golden.json``; the arrays stand beside it in ``golden.safetensors``.

    ``rows`` are whole rows by column, ``tokens`` the token ids of each unit that they become.
    ``units`` are the sample ids of the batch.
    """

    version: Literal[1] = 1
    precision: Precision
    tolerance: float
    reason: str
    units: list[int]
    row_ids: list[int]
    rows: dict[str, list[object]]
    tokens: list[list[int]]


@dataclass(frozen=True, slots=True)
class Deviation:
    """The largest difference found, and where; ``allowed`` is what that place may differ by."""

    name: str
    unit: int
    difference: float
    allowed: float


def compute(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """The context a model computes in, as in training: bf16 autocast where it was asked for.

    A device without bf16 computes in fp32 instead, which is within the tolerance of bf16.
    """
    import torch

    if precision is not Precision.BF16 or device.type == "mps":
        return contextlib.nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def make_golden(
    folder: Path,
    *,
    task: Task,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    store: TokenStore,
    rows: Rows,
    precision: Precision,
) -> Golden:
    """Write the golden batch of ``model`` into a bundle's side-car folder."""
    from safetensors.numpy import save_file

    from tunefleet.data.batch import collate

    units = _spread(store.lengths)
    batch = collate(store, units)
    outputs = _outputs(task, model, batch, precision)
    arrays = {f"batch.{name}": tensor.cpu().numpy() for name, tensor in batch.items()}
    arrays |= {f"output.{name}": np.asarray(values) for name, values in outputs.items()}
    chosen = _rows_of(rows, store.ids[units])
    golden = Golden(
        precision=precision,
        tolerance=_TOLERANCE[precision],
        reason=_REASON[precision],
        units=[int(sample) for sample in store.ids[units]],
        row_ids=[int(sample) for sample in chosen.ids],
        rows={name: [_plain(cell) for cell in cells] for name, cells in chosen.columns.items()},
        tokens=_tokens(task, chosen, tokenizer),
    )
    sidecar = folder / SIDECAR
    sidecar.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        sidecar / "golden.safetensors",
    )
    (sidecar / "golden.json").write_text(golden.to_json(), encoding="utf-8")
    return golden


def check_golden(folder: Path, task: Task, model: nn.Module) -> float:
    """The largest difference from the golden outputs; ``ModelError`` beyond the tolerance."""
    from safetensors.numpy import load_file

    golden = read_golden(folder)
    arrays = load_file(folder / SIDECAR / "golden.safetensors")
    batch = read_batch(folder)
    expected = {
        name.removeprefix("output."): array
        for name, array in arrays.items()
        if name.startswith("output.")
    }
    found = _outputs(task, model, batch, golden.precision)
    worst = compare(expected, found, golden.tolerance)
    if not worst.difference <= worst.allowed:
        raise ModelError(
            f"{folder}: the model does not reproduce its golden batch: {worst.name} of unit "
            f"{worst.unit} differs by {worst.difference:.3g}, allowed is {worst.allowed:.3g} "
            f"({golden.reason})",
            remedy="the weights, the code or the libraries are not those that were evaluated; "
            "copy the bundle again, or train and evaluate anew",
        )
    return worst.difference


def read_batch(folder: Path) -> dict[str, torch.Tensor]:
    """The golden batch's inputs by name, [units, length], as a task's batch."""
    import torch
    from safetensors.numpy import load_file

    arrays = load_file(folder / SIDECAR / "golden.safetensors")
    return {
        name.removeprefix("batch."): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("batch.")
    }


def check_tokens(folder: Path, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``ModelError`` when the golden rows become other tokens than at evaluation."""
    golden = read_golden(folder)
    if not golden.row_ids:
        return
    rows = Rows(columns=golden.rows, ids=np.asarray(golden.row_ids, dtype=np.int64))
    tokens = _tokens(task, rows, tokenizer)
    if tokens != golden.tokens:
        raise ModelError(
            f"{folder}: the tokenizer turns the golden rows into other tokens than it did when "
            "the model was evaluated",
            remedy="the tokenizer's files or libraries are not those of the bundle; copy the "
            "bundle again, or install the versions it was made with",
        )


def read_golden(folder: Path) -> Golden:
    """``tunefleet/golden.json`` of a bundle; raises ``ModelError``."""
    path = folder / SIDECAR / "golden.json"
    try:
        return Golden.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: no readable golden batch ({type(error).__name__})",
            remedy="the folder is no bundle of this version of tunefleet, or a file is missing",
        ) from error


def compare(
    expected: Mapping[str, npt.NDArray[np.generic]],
    found: Mapping[str, npt.NDArray[np.generic]],
    tolerance: float,
) -> Deviation:
    """Where ``found`` is furthest from ``expected``, measured in what is allowed there."""
    worst = Deviation("", 0, 0.0, tolerance)
    worst_ratio = -1.0
    for name, values in expected.items():
        other = found.get(name)
        if other is None or other.shape != values.shape:
            return Deviation(name, 0, float("inf"), tolerance)
        wanted = np.asarray(values, dtype=np.float64)
        allowed = tolerance + tolerance * np.abs(wanted)
        difference = np.abs(np.asarray(other, dtype=np.float64) - wanted)
        difference = np.where(np.isfinite(difference), difference, np.inf)
        if not difference.size:
            continue
        place = np.unravel_index(int(np.argmax(difference / allowed)), difference.shape)
        ratio = float(difference[place] / allowed[place])
        if ratio > worst_ratio:
            worst_ratio = ratio
            unit = int(place[0]) if place else 0
            worst = Deviation(name, unit, float(difference[place]), float(allowed[place]))
    return worst


def _spread(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of a few units from short to long, so that padding is part of the proof."""
    order = np.argsort(lengths, kind="stable")
    fitting = order[lengths[order] <= _MAX_TOKENS]
    candidates = fitting if len(fitting) else order[:1]
    picks = np.unique(np.linspace(0, len(candidates) - 1, UNITS).round().astype(np.int64))
    return np.asarray(candidates[picks], dtype=np.int64)


def _rows_of(rows: Rows, ids: npt.NDArray[np.int64]) -> Rows:
    """The rows behind these sample ids, those of a tolerable size."""
    where = {int(sample): position for position, sample in enumerate(rows.ids)}
    positions = [where[int(sample)] for sample in dict.fromkeys(ids.tolist()) if sample in where]
    small = [
        position
        for position in positions
        if len(json.dumps([_plain(cells[position]) for cells in rows.columns.values()]))
        <= _MAX_ROW_BYTES
    ]
    return rows.take(np.asarray(small, dtype=np.int64))


def _tokens(task: Task, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not len(rows):
        return []
    encoded = task.encode(rows, tokenizer)
    flat = encoded.ragged["input_ids"]
    return [flat[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def _outputs(
    task: Task, model: nn.Module, batch: Batch, precision: Precision
) -> dict[str, npt.NDArray[np.generic]]:
    import torch

    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), compute(device, precision):
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            return task.outputs(model, moved)
    finally:
        model.train(training)


def _plain(cell: object) -> object:
    """A cell as JSON values (numpy scalars and arrays become numbers and lists)."""
    if isinstance(cell, np.generic | np.ndarray):
        return cell.tolist()
    if isinstance(cell, Mapping):
        return {str(key): _plain(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(value) for value in cell]
    return cell
