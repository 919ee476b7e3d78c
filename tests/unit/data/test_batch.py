"""collate equals a reference that goes unit by unit and token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.data.batch import collate
from tunefleet.data.tokens import Encoded, TokenStore

PADDING = {"input_ids": 7, "token_type_ids": 0}

calm = settings(deadline=None, max_examples=60)


def store_of(folder: Path, units: list[list[int]]) -> TokenStore:
    flat = np.array([token for unit in units for token in unit], np.int32)
    return TokenStore.write(
        folder,
        Encoded(
            ragged={"input_ids": flat, "supervised": flat % 2},
            offsets=np.cumsum([0, *map(len, units)]).astype(np.int64),
            fixed={
                "label": np.array([len(unit) / 3 for unit in units], np.float64),
                "labels": np.array([[len(unit), 1] for unit in units], np.uint8),
            },
            ids=np.arange(100, 100 + len(units), dtype=np.int64),
            weights=np.array([len(unit) for unit in units], np.int64),
        ),
        PADDING,
    )


def reference(units: list[list[int]], chosen: list[int], multiple: int) -> dict[str, object]:
    wanted = max(len(units[i]) for i in chosen)
    while wanted % multiple:
        wanted += 1
    wanted = min(wanted, max(map(len, units)))
    ids, mask, supervised = [], [], []
    for i in chosen:
        short = wanted - len(units[i])
        ids.append(units[i] + [7] * short)
        supervised.append([token % 2 for token in units[i]] + [0] * short)
        mask.append([1] * len(units[i]) + [0] * short)
    return {"input_ids": ids, "attention_mask": mask, "supervised": supervised}


some_units = st.lists(
    st.lists(st.integers(8, 999), min_size=1, max_size=20), min_size=1, max_size=8
)


@calm
@given(some_units, st.data(), st.sampled_from([1, 4, 8]))
def test_a_batch_is_what_the_reference_says(
    tmp_path_factory: pytest.TempPathFactory,
    units: list[list[int]],
    data: st.DataObject,
    multiple: int,
) -> None:
    store = store_of(tmp_path_factory.mktemp("batch") / "s", units)
    positions = st.integers(0, len(units) - 1)
    chosen = data.draw(st.lists(positions, min_size=1, max_size=6))
    batch = collate(store, np.array(chosen, np.int64), pad_to_multiple=multiple)
    for name, values in reference(units, chosen, multiple).items():
        assert batch[name].tolist() == values
        assert batch[name].dtype == torch.int64
    assert batch["ids"].tolist() == [100 + i for i in chosen]
    assert batch["weights"].tolist() == [float(len(units[i])) for i in chosen]


def test_types_are_what_models_take(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [[8, 9], [10]])
    batch = collate(store, np.array([1, 0], np.int64))
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "input_ids": torch.int64,
        "supervised": torch.int64,
        "attention_mask": torch.int64,
        "label": torch.float32,
        "labels": torch.int64,
        "weights": torch.float32,
        "ids": torch.int64,
    }
    assert batch["labels"].tolist() == [[1, 1], [2, 1]]


@pytest.mark.parametrize(
    ("units", "width"),
    [
        pytest.param([[1] * 9, [1] * 30], 16, id="rounded up to a multiple of eight"),
        pytest.param([[1] * 9], 9, id="but never above the longest unit of the split"),
    ],
)
def test_padding(tmp_path: Path, units: list[list[int]], width: int) -> None:
    store = store_of(tmp_path / "s", units)
    batch = collate(store, np.zeros(1, np.int64))
    assert tuple(batch["input_ids"].shape) == (1, width)


def test_a_batch_can_be_written_to(tmp_path: Path) -> None:
    """The store is mapped read-only; its tensors must not be."""
    store = store_of(tmp_path / "s", [[8, 9]])
    batch = collate(store, np.zeros(1, np.int64))
    for tensor in batch.values():
        tensor.add_(1)
    kept: npt.NDArray[np.generic] = store.ragged["input_ids"]
    assert kept.tolist() == [8, 9]
