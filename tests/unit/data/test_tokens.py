"""The token store: what is written is read back, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.data.tokens import Encoded, TokenStore, join

PADDING = {"input_ids": 9}

calm = settings(deadline=None, max_examples=60)


def encoded(units: list[list[int]], first_id: int = 0) -> Encoded:
    flat = [token for unit in units for token in unit]
    offsets = np.cumsum([0, *map(len, units)])
    return Encoded(
        ragged={
            "input_ids": np.array(flat, np.int32),
            "supervised": np.array([token % 2 for token in flat], np.int32),
        },
        offsets=offsets.astype(np.int64),
        fixed={
            "label": np.arange(len(units), dtype=np.int32),
            "labels": np.eye(max(3, len(units)), 3, dtype=np.uint8)[: len(units)],
        },
        ids=np.arange(first_id, first_id + len(units), dtype=np.int64),
        weights=np.array([len(unit) for unit in units], np.int64),
        truncated=1,
    )


def contents(store: TokenStore) -> dict[str, object]:
    return {
        "input_ids": store.ragged["input_ids"].tolist(),
        "supervised": store.ragged["supervised"].tolist(),
        "offsets": store.offsets.tolist(),
        "label": store.fixed["label"].tolist(),
        "labels": store.fixed["labels"].tolist(),
        "ids": store.ids.tolist(),
        "weights": store.weights.tolist(),
        "truncated": store.truncated,
        "types": [str(a.dtype) for a in (store.offsets, *store.ragged.values(), store.ids)],
    }


units = st.lists(st.lists(st.integers(0, 1000), max_size=6), min_size=1, max_size=12)


@calm
@given(units, st.integers(1, 5))
def test_parts_written_one_by_one_are_the_store_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, units: list[list[int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    parts = [encoded(units[at : at + size], at) for at in range(0, len(units), size)]
    by_parts = TokenStore.write_parts(folder / "parts", iter(parts), PADDING)
    at_once = TokenStore.write(folder / "once", join(parts), PADDING)
    assert contents(by_parts) == contents(at_once)
    assert by_parts.ragged["input_ids"].tolist() == [t for unit in units for t in unit]
    assert by_parts.truncated == len(parts)
    assert len(by_parts) == len(units)


def test_a_store_is_mapped_and_knows_its_longest_unit(tmp_path: Path) -> None:
    store = TokenStore.write(tmp_path / "s", encoded([[1, 2], [3], [4, 5, 6, 7]]), PADDING)
    assert isinstance(store.ragged["input_ids"], np.memmap)
    assert store.lengths.tolist() == [2, 1, 4]
    assert store.longest == 4
    assert store.padding == PADDING


def test_a_store_that_stands_already_is_kept(tmp_path: Path) -> None:
    TokenStore.write(tmp_path / "s", encoded([[1]]), PADDING)
    again = TokenStore.write(tmp_path / "s", encoded([[2, 3]]), PADDING)
    assert again.ragged["input_ids"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_something_else_in_the_way_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes").write_text("mine")
    with pytest.raises(OSError, match="s"):
        TokenStore.write(tmp_path / "s", encoded([[1]]), PADDING)
    assert (tmp_path / "s" / "notes").read_text() == "mine"


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[Encoded]:
        yield encoded([[1]])
        raise RuntimeError("the tokenizer failed")

    with pytest.raises(RuntimeError, match="the tokenizer failed"):
        TokenStore.write_parts(tmp_path / "s", parts(), PADDING)
    assert list(tmp_path.iterdir()) == []


def test_no_parts_and_unlike_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to write"):
        TokenStore.write_parts(tmp_path / "s", [], PADDING)
    other = encoded([[1]])
    wide = Encoded(
        ragged=other.ragged,
        offsets=other.offsets,
        fixed={**other.fixed, "labels": np.zeros((1, 4), np.uint8)},
        ids=other.ids,
        weights=other.weights,
    )
    with pytest.raises(ValueError, match="parts differ"):
        TokenStore.write_parts(tmp_path / "s", [other, wide], PADDING)


def test_a_store_of_another_version_says_so(tmp_path: Path) -> None:
    TokenStore.write(tmp_path / "s", encoded([[1]]), PADDING)
    header = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps(header | {"version": 99}))
    with pytest.raises(ValueError, match="another version"):
        TokenStore(tmp_path / "s")


def test_units_without_tokens_can_be_opened(tmp_path: Path) -> None:
    store = TokenStore.write(tmp_path / "s", encoded([[], []]), PADDING)
    assert store.ragged["input_ids"].tolist() == []
    assert store.longest == 0
