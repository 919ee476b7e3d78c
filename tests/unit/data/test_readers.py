"""Every format gives the same rows, with the file and line of each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from tests.unit.data.conftest import Read, write

TEXTS = ["plain", "two\nlines", 'a "quote"', "caf\u00e9, naturellement", " padded ", "6"]
LABELS = ["good", "bad", "good", "bad", "good", "bad"]
ROWS = [{"text": t, "label": label} for t, label in zip(TEXTS, LABELS, strict=True)]
TABLE = pa.table({"id": list(range(6)), "text": TEXTS, "label": LABELS})


def csv(delimiter: str = ",", *, end: str = "\n") -> str:
    cells = [
        [f'"{t.replace(chr(34), chr(34) * 2)}"', label]
        for t, label in zip(TEXTS, LABELS, strict=True)
    ]
    return end.join([delimiter.join(row) for row in [["text", "label"], *cells]]) + end


def parquet(table: pa.Table = TABLE) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow_stream() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue()


def feather_file() -> bytes:
    sink = io.BytesIO()
    feather.write_feather(TABLE, sink)
    return sink.getvalue()


LINES = [2, 3, 5, 6, 7, 8]
NO_LINES = [None] * 6

FORMATS: dict[str, tuple[str, bytes, dict[str, object], list[int] | list[None]]] = {
    "CSV": ("r.csv", csv().encode(), {}, LINES),
    "CSV with Windows line ends": ("r.csv", csv(end="\r\n").encode(), {}, LINES),
    "CSV with a byte order mark": ("r.csv", b"\xef\xbb\xbf" + csv().encode(), {}, LINES),
    "CSV with blank lines": (
        "r.csv",
        csv().replace("label\n", "label\n\n").encode(),
        {},
        [n + 1 for n in LINES],
    ),
    "CSV with semicolons": ("r.csv", csv(";").encode(), {"delimiter": ";"}, LINES),
    "CSV in Latin-1": ("r.csv", csv().encode("latin-1"), {"encoding": "latin-1"}, LINES),
    "CSV in UTF-16": ("r.csv", csv().encode("utf-16"), {"encoding": "utf-16"}, LINES),
    "CSV by another ending": ("r.data", csv().encode(), {"format": "csv"}, LINES),
    "TSV": ("r.tsv", csv("\t").encode(), {}, LINES),
    "JSON on many lines": (
        "r.json",
        json.dumps(ROWS, indent=1).encode(),
        {},
        [2, 6, 10, 14, 18, 22],
    ),
    "JSON on one line": ("r.json", json.dumps(ROWS).encode(), {}, [1] * 6),
    "JSONL": ("r.jsonl", "\n".join(map(json.dumps, ROWS)).encode(), {}, [1, 2, 3, 4, 5, 6]),
    "JSONL with blank lines": (
        "r.ndjson",
        "\n\n".join(map(json.dumps, ROWS)).encode(),
        {},
        [1, 3, 5, 7, 9, 11],
    ),
    "Parquet": ("r.parquet", parquet(), {}, NO_LINES),
    "Parquet with dictionaries": (
        "r.parquet",
        parquet(TABLE.set_column(2, "label", TABLE["label"].dictionary_encode())),
        {},
        NO_LINES,
    ),
    "Arrow as a stream": ("r.arrow", arrow_stream(), {}, NO_LINES),
    "Feather": ("r.feather", feather_file(), {}, NO_LINES),
}


@pytest.mark.parametrize(
    ("name", "content", "options", "lines"),
    [pytest.param(*case, id=title) for title, case in FORMATS.items()],
)
def test_a_format(
    read: Read,
    name: str,
    content: bytes,
    options: dict[str, object],
    lines: list[int] | list[None],
) -> None:
    held = {"held.csv": "text,label\nx,good\n"}
    data = {"train": {"uri": name, **options}, "validation": {"uri": "held.csv"}}
    rows = read({name: content, **held}, data).rows["train"]
    assert rows.columns["text"] == TEXTS
    assert rows.columns["label"] == [1, 0, 1, 0, 1, 0]
    assert [rows.place(i) for i in range(6)] == [(name, line) for line in lines]
    assert rows.ids.tolist() == list(range(6))


def test_plain_text_is_a_row_per_line(read: Read) -> None:
    text = "first line\n\n  \nsecond line\r\nthird\nfourth"
    splits = read(
        {"r.txt": text, "h.txt": "held\n"},
        {"train": {"uri": "r.txt"}, "validation": {"uri": "h.txt"}},
        task="causal-lm",
        options={"format": "text"},
    )
    rows = splits.rows["train"]
    assert rows.columns["text"] == ["first line", "second line", "third", "fourth"]
    assert rows.lines.tolist() == [1, 4, 5, 6]


def test_files_are_read_in_the_order_of_their_names(read: Read) -> None:
    header = "text,label\n"
    files: dict[str, str | bytes] = {
        "d/part-2.csv": header + "c,x\nd,y\n",
        "d/part-1.csv": header + "a,x\nb,y\n",
        "d/e/deep.csv": header + "z,x\n",
        "more.csv": header + "e,x\n",
    }
    held = {
        "train": {"uri": ["d/part-*.csv", "more.csv", "d/part-1.csv"]},
        "validation": {"uri": "d/**/deep.csv"},
    }
    splits = read(files, held)
    assert splits.rows["train"].columns["text"] == ["a", "b", "c", "d", "e"]
    assert [splits.rows["train"].place(i) for i in (1, 2, 4)] == [
        ("d/part-1.csv", 3),
        ("d/part-2.csv", 2),
        ("more.csv", 2),
    ]
    assert splits.files == ("d/part-1.csv", "d/part-2.csv", "more.csv", "d/e/deep.csv")
    # Held-out files are numbered after the training rows.
    assert splits.rows["validation"].ids.tolist() == [5]


def test_a_name_with_brackets_and_a_file_uri_are_taken_as_they_are(
    read: Read, tmp_path: Path
) -> None:
    rows = "text,label\n" + "".join(f"r{i},{'ab'[i % 2]}\n" for i in range(30))
    place = (tmp_path / "other file.csv").as_uri()
    files: dict[str, str | bytes] = {"rows[1].csv": rows, "other file.csv": rows}
    data = {"train": {"uri": "rows[1].csv"}, "validation": {"uri": place}}
    assert len(read(files, data).rows["validation"]) == 30


def test_columns_are_mapped_and_the_optional_one_is_found(read: Read) -> None:
    rows = "review,stars,textPair,other\n" + "".join(f"r{i},{i % 3},p{i},o\n" for i in range(30))
    splits = read(
        {"r.csv": rows},
        {"train": {"uri": "r.csv"}, "columns": {"text": "review", "label": "stars"}},
    )
    assert splits.columns == {"text": "review", "textPair": "textPair", "label": "stars"}
    assert splits.labels == ("0", "1", "2")
    assert splits.rows["train"].columns["textPair"][:2] == ["p0", "p1"]


LABEL_CELLS: dict[str, tuple[list[object], list[str], list[int]]] = {
    "numbers sort by value": ([10, 9, 2], ["2", "9", "10"], [2, 1, 0]),
    "numbers as text sort by value too": (["10", "9", "2"], ["2", "9", "10"], [2, 1, 0]),
    "words sort by spelling": (["b", "a", "C"], ["C", "a", "b"], [2, 1, 0]),
    "truth values": ([True, False, True], ["false", "true"], [1, 0, 1]),
    "whole floats are integers": ([1.0, 2.0, 1], ["1", "2"], [0, 1, 0]),
    "halves stay halves": ([0.5, 1.5, "0.5"], ["0.5", "1.5"], [0, 1, 0]),
    "spaces around do not count": ([" a", "b ", "a"], ["a", "b"], [0, 1, 0]),
    "True as text is true": (["True", False, True], ["false", "true"], [1, 0, 1]),
}


@pytest.mark.parametrize(
    ("cells", "names", "indices"),
    [pytest.param(*case, id=name) for name, case in LABEL_CELLS.items()],
)
def test_labels_have_one_spelling_and_one_order(
    read: Read, cells: list[object], names: list[str], indices: list[int]
) -> None:
    rows = "\n".join(json.dumps({"text": f"t{i}", "label": c}) for i, c in enumerate(cells))
    files: dict[str, str | bytes] = {"r.jsonl": rows, "h.jsonl": rows}
    data = {"train": {"uri": "r.jsonl"}, "validation": {"uri": "h.jsonl"}}
    splits = read(files, data)
    assert list(splits.labels) == names
    assert splits.rows["train"].columns["label"] == indices


def test_given_labels_keep_their_order(read: Read) -> None:
    rows = "text,label\n" + "".join(f"r{i},{['low', 'mid', 'high'][i % 3]}\n" for i in range(30))
    splits = read({"r.csv": rows}, {"train": {"uri": "r.csv"}, "labels": ["low", "mid", "high"]})
    assert splits.labels == ("low", "mid", "high")
    assert splits.rows["train"].columns["label"][:3] == [0, 1, 2]


def test_several_labels_are_a_list_or_joined(read: Read) -> None:
    rows = [["a", "b"], "b|c", "", [], "a", "a | c"]
    lines = "\n".join(json.dumps({"text": f"t{i}", "label": c}) for i, c in enumerate(rows))
    splits = read(
        {"r.jsonl": lines, "h.jsonl": lines},
        {"train": {"uri": "r.jsonl"}, "validation": {"uri": "h.jsonl"}},
        options={"problem": "multi-label"},
    )
    assert splits.labels == ("a", "b", "c")
    assert splits.rows["train"].columns["label"] == [[0, 1], [1, 2], [], [], [0], [0, 2]]


def test_chats_may_be_lists_or_json_text(read: Read) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    lines = [json.dumps({"messages": m}) for m in (messages, json.dumps(messages), messages)]
    splits = read(
        {"r.jsonl": "\n".join(lines), "h.jsonl": lines[0]},
        {"train": {"uri": "r.jsonl"}, "validation": {"uri": "h.jsonl"}},
        task="causal-lm",
        options={"format": "chat"},
    )
    assert splits.rows["train"].columns["messages"] == [messages] * 3


# -- hub data sets -------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_data_set_in_a_folder_is_read_by_split(read: Read) -> None:
    header = "text,label\n"
    files: dict[str, str | bytes] = {
        "reviews/train.csv": header + "a,x\nb,y\nc,x\n",
        "reviews/test.csv": header + "d,y\n",
    }
    hub = {"name": "reviews"}
    data = {"train": {"hub": hub}, "validation": {"hub": {**hub, "split": "test"}}}
    splits = read(files, data)
    assert splits.rows["train"].columns["text"] == ["a", "b", "c"]
    assert splits.rows["validation"].columns["label"] == [1]


@pytest.mark.usefixtures("hub_cache")
def test_class_names_of_a_hub_data_set_are_its_labels(read: Read, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    made = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    (tmp_path / "set").mkdir()
    made.to_parquet(str(tmp_path / "set" / "train.parquet"))
    splits = read({}, {"train": {"hub": {"name": "set"}}, "validation": {"hub": {"name": "set"}}})
    assert splits.labels == ("neg", "pos")
    assert splits.rows["train"].columns["label"] == [1, 0, 1]


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_data_set_that_cannot_be_had_is_a_problem(refused: object, tmp_path: Path) -> None:
    assert callable(refused)
    problems = refused({}, {"train": {"hub": {"name": "nobody/nothing-of-this-name"}}})
    assert "cannot load this data set" in problems[0].message
    assert "check name, config, split and revision" in problems[0].remedy
    write(tmp_path, {"set/train.csv": "text,label\na,x\n"})
    problems = refused({}, {"train": {"hub": {"name": "set", "split": "nope"}}})
    assert "nope" in problems[0].message
