"""What the tasks share when they look at a batch: sides, padding, place and precision.

Decides that padding is masked by length and never by id, that answers are given without
dropout and gradients, and that numbers leave a model in single precision at least. Imports
torch and numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def padding_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The values ragged fields are padded with (0 where not given).

    A tokenizer without a pad token pads with its end token: what stands in the padding has
    no effect, because it is masked by length.
    """
    return {
        "input_ids": next(
            (
                token
                for token in (tokenizer.pad_token_id, tokenizer.eos_token_id)
                if isinstance(token, int)
            ),
            0,
        ),
        "token_type_ids": tokenizer.pad_token_type_id,
    }


def pad(
    flat: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    value: int,
    device: torch.device,
    *,
    left: bool = False,
) -> torch.Tensor:
    """A ragged field as a rectangle [units, longest], padded at the right (or left) side."""
    mask = length_mask(np.diff(offsets), left=left)
    padded = np.full(mask.shape, value, np.int64)
    padded[mask] = flat
    return torch.from_numpy(padded).to(device)


def length_mask(lengths: npt.NDArray[np.int64], *, left: bool = False) -> npt.NDArray[np.bool_]:
    """True where a unit has a token, [units, longest]."""
    longest = int(lengths.max(initial=0))
    columns = np.arange(longest)
    if left:
        return np.asarray(columns[None, :] >= longest - lengths[:, None])
    return np.asarray(columns[None, :] < lengths[:, None])


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """Without dropout and without gradients; the model's mode is put back at the end."""
    training = model.training
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Half precision as single precision; single and double as they are."""
    return values if values.dtype == torch.float64 else values.float()


def to_numpy(values: torch.Tensor, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
    """A tensor's values on the host."""
    array: npt.NDArray[np.generic] = values.detach().cpu().numpy().astype(dtype)
    return array


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device


def text_of(item: Mapping[str, object], index: int, field: str) -> str:
    """A text of a request item; raises ``ValueError`` that names item and field."""
    value = item.get(field)
    if not isinstance(value, str):
        what = "is missing" if value is None else f"is {type(value).__name__}, not a text"
        raise ValueError(f"item {index}: {field} {what}")
    return value


def known_fields(item: Mapping[str, object], index: int, fields: Sequence[str]) -> None:
    """Refuse fields that nothing would read, naming the item and the field."""
    for name in item:
        if name not in fields:
            raise ValueError(f"item {index}: {name} is not read; known are {', '.join(fields)}")
