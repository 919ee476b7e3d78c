"""A micro-batch: units of a token store as padded tensors.

Decides the padding (to the longest unit of the micro-batch, rounded up) and the types a
model gets. Vectorised: one gather per array, no loop over units or tokens. Imports torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tunefleet.data.draws import Indices
from tunefleet.data.tokens import TokenStore

Batch = dict[str, torch.Tensor]


def collate(store: TokenStore, units: Indices, *, pad_to_multiple: int = 8) -> Batch:
    """The units as tensors: ragged arrays [n, t] int64 with ``attention_mask``, fixed
    arrays [n, …], ``weights`` float32 [n] and ``ids`` int64 [n].
    """
    units = np.asarray(units, np.int64)
    lengths = store.lengths[units]
    # Never above the store's longest unit: a model's positions need not be a multiple.
    longest = min(padded(int(lengths.max(initial=0)), pad_to_multiple), store.longest)
    within = np.arange(longest, dtype=np.int64)
    real = within[None, :] < lengths[:, None]
    # Positions in the flat arrays of every real token, unit after unit.
    source = (store.offsets[units][:, None] + within[None, :])[real]
    batch: Batch = {}
    for name, flat in store.ragged.items():
        values = np.full(real.shape, store.padding.get(name, 0), np.int64)
        values[real] = flat[source]
        batch[name] = torch.from_numpy(values)
    batch["attention_mask"] = torch.from_numpy(real.astype(np.int64))
    for name, stored in store.fixed.items():
        batch[name] = torch.from_numpy(_model_type(stored[units]))
    batch["weights"] = torch.from_numpy(store.weights[units].astype(np.float32))
    batch["ids"] = torch.from_numpy(store.ids[units].astype(np.int64))
    return batch


def padded(longest: int, multiple: int) -> int:
    """A length rounded up to a multiple."""
    return -(-longest // multiple) * multiple


def _model_type(
    values: npt.NDArray[np.generic],
) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
    if np.issubdtype(values.dtype, np.floating):
        return np.ascontiguousarray(values, np.float32)
    return np.ascontiguousarray(values, np.int64)
