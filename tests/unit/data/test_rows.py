"""Rows on disk: what is written is read back, and equal rows have equal digests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.data.rows import digest_rows, from_table, load_rows, save_rows, to_table
from tunefleet.data.tokens import Rows

COLUMNS: dict[str, list[object]] = {
    "text": ["a", "", "caf\u00e9"],
    "label": [1, 0, 1],
    "score": [0.5, 1.0, -2.25],
    "labels": [[0, 1], [], [2]],
    "messages": [[{"role": "user", "content": "h\u00e9"}], [], [{"role": "user", "content": "x"}]],
}


def rows_of(columns: dict[str, Sequence[object]], first: int = 0) -> Rows:
    count = len(next(iter(columns.values())))
    return Rows(
        columns=columns,
        ids=np.arange(first, first + count, dtype=np.int64),
        files=("a.csv", "b.csv"),
        file_of=np.array([0, 0, 1][:count], np.int32),
        lines=np.array([2, 3, 2][:count], np.int64),
    )


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    save_rows(tmp_path / "s", rows_of({**COLUMNS}))
    back = load_rows(tmp_path / "s")
    assert back.columns == COLUMNS
    assert back.ids.tolist() == [0, 1, 2]
    assert [back.place(i) for i in range(3)] == [("a.csv", 2), ("a.csv", 3), ("b.csv", 2)]
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["rows.arrow"]


def test_a_part_can_be_read_alone(tmp_path: Path) -> None:
    save_rows(tmp_path, rows_of({**COLUMNS}))
    part = load_rows(tmp_path, 1, 3)
    assert part.columns["text"] == ["", "caf\u00e9"]
    assert part.columns["labels"] == [[], [2]]
    assert part.ids.tolist() == [1, 2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(), min_size=1, max_size=20))
def test_any_text_comes_back(texts: list[str]) -> None:
    rows = Rows(columns={"text": texts}, ids=np.arange(len(texts), dtype=np.int64))
    if any("\ud800" <= c <= "\udfff" for text in texts for c in text):
        return
    assert from_table(to_table(rows)).columns["text"] == texts


def test_the_digest_never_changes_silently() -> None:
    """A run that is resumed by a later version must know its data again."""
    assert (
        digest_rows(rows_of({**COLUMNS}))
        == "d5b6b5efc20881eacc87b09afdd4f94462ea68c7144ff397979d8b046939b1a5"
    )


CHANGES: dict[str, Rows] = {
    "another text": rows_of({**COLUMNS, "text": ["a", "", "cafe"]}),
    "a letter moved from one row to the next": rows_of({**COLUMNS, "text": ["", "a", "caf\u00e9"]}),
    "another label": rows_of({**COLUMNS, "label": [1, 0, 0]}),
    "another list": rows_of({**COLUMNS, "labels": [[0], [1], [2]]}),
    "other ids": rows_of({**COLUMNS}, first=1),
    "another name": rows_of({("texts" if k == "text" else k): v for k, v in COLUMNS.items()}),
    "a row less": rows_of({**COLUMNS}).part(0, 2),
}


@pytest.mark.parametrize("changed", [pytest.param(r, id=name) for name, r in CHANGES.items()])
def test_every_change_of_content_changes_the_digest(changed: Rows) -> None:
    assert digest_rows(changed) != digest_rows(rows_of({**COLUMNS}))


def test_where_rows_were_written_is_no_part_of_the_digest() -> None:
    elsewhere = Rows(columns=COLUMNS, ids=np.arange(3, dtype=np.int64), files=("z.csv",))
    assert digest_rows(elsewhere) == digest_rows(rows_of({**COLUMNS}))


def test_a_part_has_the_digest_of_the_same_rows_made_anew(tmp_path: Path) -> None:
    whole = rows_of({**COLUMNS})
    again = rows_of({name: cells[:2] for name, cells in COLUMNS.items()})
    assert digest_rows(whole.part(0, 2)) == digest_rows(again)
    assert digest_rows(whole.take(np.array([0, 1], np.int64))) == digest_rows(again)
