"""Tokenisation gives one result, whatever number of processes made it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.toy_encoder import Letters
from tunefleet.data import tokenise
from tunefleet.data.rows import load_rows
from tunefleet.data.tokenise import Tokenising, pays
from tunefleet.data.tokens import Rows, TokenStore


def rows_of(texts: list[str]) -> Rows:
    count = len(texts)
    return Rows(
        columns={"text": texts, "label": [i % 2 for i in range(count)]},
        ids=np.arange(1000, 1000 + count, dtype=np.int64),
        files=("r.csv",),
        file_of=np.zeros(count, np.int32),
        lines=np.arange(2, count + 2, dtype=np.int64),
    )


ROWS = rows_of([f"row {i} " + "abc" * (i % 7) for i in range(50)])


def tokenising(encoder: Letters, processes: int | None, *, chunk_rows: int = 8) -> Tokenising:
    return Tokenising(
        encoder=encoder,
        tokenizer=encoder.load_tokenizer(Path("model")),
        model_path=Path("model"),
        padding={"input_ids": 3},
        processes=processes,
        chunk_rows=chunk_rows,
    )


def contents(store: TokenStore) -> list[object]:
    arrays = (store.ragged["input_ids"], store.offsets, store.fixed["label"], store.ids)
    return [*(array.tolist() for array in arrays), store.weights.tolist(), store.truncated]


def expected(tmp_path: Path, rows: Rows = ROWS) -> list[object]:
    encoder = Letters()
    encoded = encoder.encode(rows, encoder.load_tokenizer(Path("model")))
    return contents(TokenStore.write(tmp_path / "expected", encoded, {}))


def test_chunks_here_are_the_rows_at_once(tmp_path: Path) -> None:
    done: list[int] = []
    store = tokenising(Letters(), None).store(ROWS, tmp_path / "s", done.append)
    assert contents(store) == expected(tmp_path)
    assert done == [8, 16, 24, 32, 40, 48, 50]
    assert store.padding == {"input_ids": 3}


def test_processes_give_the_same_store(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done: list[int] = []
    work = tokenising(Letters(log=str(log)), 2)
    store = work.store(ROWS, tmp_path / "s", done.append)
    assert contents(store) == expected(tmp_path)
    assert done[-1] == 50
    workers = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected", "log", "s"]


def test_processes_that_fail_cost_nothing_but_time(tmp_path: Path) -> None:
    encoder = Letters(fail_in_others=True, parent=os.getpid())
    done: list[int] = []
    store = tokenising(encoder, 2, chunk_rows=20).store(ROWS, tmp_path / "s", done.append)
    assert contents(store) == expected(tmp_path)
    assert done == [20, 40, 50]


@pytest.mark.parametrize(
    "processes",
    [pytest.param(None, id="in this process"), pytest.param(2, id="in processes")],
)
def test_a_row_that_cannot_be_encoded_names_itself_and_leaves_nothing(
    tmp_path: Path, processes: int | None
) -> None:
    rows = rows_of(["fine"] * 30 + ["bad"] + ["fine"] * 5)
    with pytest.raises(ValueError, match=r"\('r.csv', 32\): bad"):
        tokenising(Letters(), processes).store(rows, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_made_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    work = tokenising(Letters(log=str(log)), None)
    work.store(ROWS, tmp_path / "s")
    encoded = log.read_text()
    work.store(ROWS, tmp_path / "s")
    assert log.read_text() == encoded


def test_rows_stand_beside_the_store_and_a_lost_file_is_made_anew(tmp_path: Path) -> None:
    work = tokenising(Letters(), None)
    store = work.store(ROWS, tmp_path / "s")
    assert load_rows(store.folder).columns["text"] == ROWS.columns["text"]
    (store.folder / "rows.arrow").unlink()
    assert not tokenise.is_complete(store.folder)
    work.store(ROWS, tmp_path / "s")
    assert load_rows(store.folder).lines.tolist() == ROWS.lines.tolist()


def test_slow_encoding_moves_to_processes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenise, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(tokenise, "cores", lambda: 2)
    monkeypatch.setattr(tokenise, "pays", lambda wall, cpu, left, cores: True)
    log = tmp_path / "log"
    store = tokenising(Letters(log=str(log)), None).store(ROWS, tmp_path / "s")
    assert contents(store) == expected(tmp_path)
    lines = log.read_text().splitlines()
    here = [line for line in lines if line.startswith(f"{os.getpid()} ")]
    assert here == [f"{os.getpid()} 8"]
    assert sum(int(line.split()[1]) for line in lines) == 50


PAYS: dict[str, tuple[float, float, float, int, bool]] = {
    "one core busy of eight, a minute left": (1.0, 1.0, 60.0, 8, True),
    "one core busy of eight, ten seconds left": (1.0, 1.0, 10.0, 8, False),
    "all cores busy already": (1.0, 7.9, 100.0, 8, False),
    "a single core": (1.0, 1.0, 3600.0, 1, False),
    "two cores, one busy, a minute left": (1.0, 1.0, 60.0, 2, True),
}


@pytest.mark.parametrize(
    ("wall", "cpu", "left", "cores", "answer"),
    [pytest.param(*case, id=name) for name, case in PAYS.items()],
)
def test_processes_are_started_where_they_save_more_than_they_cost(
    wall: float, cpu: float, left: float, cores: int, answer: bool
) -> None:
    assert pays(wall, cpu, left, cores) is answer
