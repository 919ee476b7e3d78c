"""Splits of a job: sample ids, fractions of all rows, groups, and what a seed changes."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.data.conftest import Read

ROWS = "text,label,customer\n" + "".join(
    f"text {i},{'abc'[i % 3]},{'customer'} {i % 23}\n" for i in range(300)
)
FRACTIONS = {
    "train": {"uri": "r.csv"},
    "validation": {"fraction": 0.1},
    "test": {"fraction": 0.2},
}


def ids(read: Read, data: dict[str, object], seed: int = 17) -> dict[str, list[int]]:
    splits = read({"r.csv": ROWS, "h.csv": ROWS.replace("text ", "held ")}, data, seed=seed)
    return {name: rows.ids.tolist() for name, rows in splits.rows.items()}


def test_fractions_are_of_all_rows_and_part_them(read: Read) -> None:
    found = ids(read, FRACTIONS)
    assert {name: len(rows) for name, rows in found.items()} == {
        "train": 210,
        "validation": 30,
        "test": 60,
    }
    assert sorted(i for rows in found.values() for i in rows) == list(range(300))
    assert list(found) == ["train", "validation", "test"]


def test_rows_carry_their_id_and_their_place(read: Read) -> None:
    splits = read({"r.csv": ROWS}, FRACTIONS)
    for rows in splits.rows.values():
        for position, found in enumerate(rows.ids.tolist()):
            assert rows.columns["text"][position] == f"text {found}"
            assert rows.place(position) == ("r.csv", found + 2)


def test_labels_are_held_out_in_proportion(read: Read) -> None:
    splits = read({"r.csv": ROWS}, FRACTIONS)
    assert Counter(splits.rows["test"].columns["label"]) == {0: 20, 1: 20, 2: 20}
    assert Counter(splits.rows["validation"].columns["label"]) == {0: 10, 1: 10, 2: 10}


def test_a_test_split_does_not_depend_on_the_validation_split(read: Read) -> None:
    other = {**FRACTIONS, "validation": {"fraction": 0.3}}
    assert ids(read, FRACTIONS)["test"] == ids(read, other)["test"]


def test_another_seed_holds_out_other_rows(read: Read) -> None:
    assert ids(read, FRACTIONS) == ids(read, FRACTIONS)
    assert ids(read, FRACTIONS)["test"] != ids(read, FRACTIONS, seed=18)["test"]


def test_a_customer_stands_on_one_side_only(read: Read) -> None:
    held = {"fraction": 0.2, "groupBy": "customer"}
    found = ids(read, {"train": {"uri": "r.csv"}, "validation": held, "test": held})
    customers = {name: {i % 23 for i in rows} for name, rows in found.items()}
    assert customers["train"] | customers["validation"] | customers["test"] == set(range(23))
    assert sum(map(len, customers.values())) == 23
    assert 45 <= len(found["validation"]) <= 75
    assert 45 <= len(found["test"]) <= 75


def test_a_file_is_held_out_as_it_is_and_numbered_on(read: Read) -> None:
    found = ids(read, {**FRACTIONS, "validation": {"uri": "h.csv"}})
    assert found["validation"] == list(range(300, 600))
    assert len(found["train"]) == 240


def test_dropped_rows_leave_the_ids_of_the_others_alone(read: Read) -> None:
    rows = ROWS + ROWS.split("\n", 1)[1]
    data = {"train": {"uri": "r.csv"}, "duplicates": "drop"}
    splits = read({"r.csv": rows}, data)
    kept = [i for found in splits.rows.values() for i in found.ids.tolist()]
    assert sorted(kept) == list(range(300))
    assert not [f for f in splits.findings if f.code == "leak"]


@pytest.mark.parametrize(
    ("duplicates", "leaked"),
    [
        pytest.param("keep", True, id="kept duplicates can stand on both sides"),
        pytest.param("drop", False, id="dropped ones cannot"),
    ],
)
def test_duplicates_and_leaks(read: Read, duplicates: str, leaked: bool) -> None:
    rows = ROWS + ROWS.split("\n", 1)[1]
    data = {"train": {"uri": "r.csv"}, "duplicates": duplicates}
    codes = {f.code for f in read({"r.csv": rows}, data).findings}
    assert ("leak" in codes) is leaked
    assert "duplicates" in codes
