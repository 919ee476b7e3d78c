"""``init``: what is guessed from a file, and that what is written is what is read later."""

# ruff: noqa: E501 - a case of a table stands on one line

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tunefleet.api.errors import DataError, SpecError
from tunefleet.data.problems import Problems
from tunefleet.data.readers import read
from tunefleet.data.sources import resolve
from tunefleet.verbs.init import init, quoted
from tunefleet.verbs.jobfile import load, parse
from tunefleet.verbs.locate import read_document

Row = Mapping[str, object]
WORDS = [
    "the",
    "film",
    "was",
    "long",
    "and",
    "the",
    "room",
    "was",
    "cold",
    "but",
    "we",
    "liked",
    "it",
    "all",
    "the",
    "same",
]


def sentence(at: int, words: int = 8) -> str:
    return " ".join(WORDS[(at * 5 + step * 3) % len(WORDS)] for step in range(words)) + f" {at}"


def rows(count: int, **columns: Callable[[int], object]) -> list[Row]:
    return [{name: make(at) for name, make in columns.items()} for at in range(count)]


def write_csv(
    path: Path, table: Sequence[Row], delimiter: str = ",", encoding: str = "utf-8"
) -> None:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)


def write_jsonl(path: Path, table: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))


def pick(*values: object) -> Callable[[int], object]:
    return lambda at: values[at % len(values)]


@pytest.mark.parametrize(
    ("table", "task", "options", "columns", "labels"),
    [
        (rows(40, review=sentence, stars=pick(1, 2, 3)), "text-classification", {}, {"text": "review", "label": "stars"}, ["1", "2", "3"]),
        (rows(40, id=lambda at: at, text=sentence, sentiment=pick("no", "yes")), "text-classification", {}, {"text": "text", "label": "sentiment"}, ["no", "yes"]),
        (rows(40, body=sentence, kind=pick("spam", "ham")), "text-classification", {}, {"text": "body", "label": "kind"}, ["ham", "spam"]),
        (rows(40, stars=pick(10, 9, 2), review=sentence), "text-classification", {}, {"text": "review", "label": "stars"}, ["2", "9", "10"]),
        (rows(40, text=sentence, score=lambda at: 0.5 + at / 7), "text-classification", {"problem": "regression"}, {"text": "text", "label": "score"}, None),
        (rows(80, text=sentence, votes=lambda at: at * 3, label=lambda at: at), "text-classification", {"problem": "regression"}, {"text": "text", "label": "label"}, None),
        (rows(40, text=sentence, tags=pick("a|b", "b", "c|a", "a|b|c", "c")), "text-classification", {"problem": "multi-label"}, {"text": "text", "label": "tags"}, ["a", "b", "c"]),
        (rows(40, text=sentence, tags=pick("a;b", "b", "c;a", "a;b;c", "c")), "text-classification", {"problem": "multi-label", "labelSeparator": ";"}, {"text": "text", "label": "tags"}, ["a", "b", "c"]),
        (rows(40, premise=sentence, hypothesis=lambda at: sentence(at + 3), label=pick("yes", "no")), "text-classification", {}, {"text": "premise", "textPair": "hypothesis", "label": "label"}, ["no", "yes"]),
        (rows(40, sentence1=sentence, sentence2=lambda at: sentence(at + 3), label=pick(0, 1)), "text-classification", {}, {"text": "sentence1", "textPair": "sentence2", "label": "label"}, ["0", "1"]),
        (rows(40, prompt=sentence, completion=lambda at: sentence(at + 1)), "causal-lm", {"format": "instruction"}, {"prompt": "prompt", "completion": "completion"}, None),
        (rows(40, instruction=sentence, response=lambda at: sentence(at + 1), system=pick("Be kind.")), "causal-lm", {"format": "instruction"}, {"prompt": "instruction", "completion": "response", "system": "system"}, None),
        (rows(40, question=sentence, answer=pick("yes", "no"), label=pick("a", "b")), "text-classification", {}, {"text": "question", "label": "label"}, ["a", "b"]),
        (rows(40, poem=lambda at: sentence(at, 20)), "causal-lm", {"format": "text"}, {"text": "poem"}, None),
        (rows(40, text=sentence, label=pick("only")), "text-classification", {}, {"text": "text", "label": "label"}, None),
    ],
    ids=[
        "stars are classes",
        "yes and no are labels, in quotes",
        "a column of few values is a label",
        "number labels are sorted as numbers",
        "fractions are a regression",
        "many whole numbers are a regression",
        "names with a bar are several labels",
        "names with a semicolon are several labels",
        "premise and hypothesis are a pair",
        "two columns numbered 1 and 2 are a pair",
        "prompt and completion are an instruction",
        "an instruction may have a system message",
        "a label wins over question and answer",
        "text alone is plain text",
        "one class is no list of labels",
    ],
)  # fmt: skip
def test_the_task_is_guessed_from_names_and_cells(
    tmp_path: Path,
    table: list[Row],
    task: str,
    options: dict[str, object],
    columns: dict[str, str],
    labels: list[str] | None,
) -> None:
    write_csv(tmp_path / "rows.csv", table)
    init(tmp_path / "rows.csv", tmp_path / "job.yaml")
    job = load(tmp_path / "job.yaml").job
    assert job.spec.task == task
    assert job.spec.data.columns == columns
    assert job.spec.data.labels == labels
    dumped = job.spec.options.model_dump(by_alias=True)
    assert {key: dumped[key] for key in options} == options
    if not options:
        assert job.spec.options == type(job.spec.options)()


def test_lists_of_labels_and_chats_are_seen_in_json(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "tags.jsonl", rows(20, text=sentence, topics=pick(["a"], ["a", "b"], []))
    )
    init(tmp_path / "tags.jsonl", tmp_path / "tags.yaml")
    job = load(tmp_path / "tags.yaml").job
    assert job.spec.options.model_dump()["problem"] == "multi-label"
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    write_jsonl(tmp_path / "chat.jsonl", rows(20, messages=pick(turns), source=pick("a", "b")))
    init(tmp_path / "chat.jsonl", tmp_path / "chat.yaml")
    job = load(tmp_path / "chat.yaml").job
    assert job.spec.options.model_dump()["format"] == "chat"
    assert job.spec.data.columns == {"messages": "messages"}


TABLE = rows(30, text=sentence, label=pick("good", "bad"))


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([dict(row) for row in TABLE]), path)


def _arrow(path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([dict(row) for row in TABLE])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda path: write_csv(path, TABLE)),
        ("a.csv", lambda path: write_csv(path, TABLE, ";")),
        ("a.csv", lambda path: write_csv(path, TABLE, "|")),
        ("a.csv", lambda path: write_csv(path, TABLE, "\t")),
        ("a.csv", lambda path: write_csv(path, TABLE, encoding="utf-8-sig")),
        ("a.csv", lambda path: write_csv(path, TABLE, encoding="utf-16")),
        ("a.csv", lambda path: write_csv(path, [{**row, "text": f"café {row['text']}"} for row in TABLE], encoding="latin-1")),
        ("a.csv", lambda path: write_csv(path, [{**row, "text": f"“{row['text']}”"} for row in TABLE], encoding="cp1252")),
        ("a.csv", lambda path: write_csv(path, [{**row, "text": f'a "b",\n{row["text"]}'} for row in TABLE])),
        ("a.tsv", lambda path: write_csv(path, TABLE, "\t")),
        ("a.data", lambda path: write_csv(path, TABLE, ";")),
        ("a.jsonl", lambda path: write_jsonl(path, TABLE)),
        ("lines", lambda path: write_jsonl(path, TABLE)),
        ("a.json", lambda path: path.write_text(json.dumps(TABLE))),
        ("a.parquet", _parquet),
        ("a.bin", _parquet),
        ("a.arrow", _arrow),
    ],
    ids=[
        "commas",
        "semicolons",
        "bars",
        "tabs in a .csv",
        "a byte order mark",
        "UTF-16",
        "Latin-1",
        "Windows quotes",
        "quotes, commas and line breaks in cells",
        "a .tsv",
        "an unknown ending",
        "JSON lines",
        "JSON lines without an ending",
        "a JSON list",
        "Parquet",
        "Parquet with another ending",
        "Arrow",
    ],
)  # fmt: skip
def test_what_is_written_is_read_by_the_readers_of_check(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    written = init(tmp_path / name, tmp_path / "job.yaml")
    file = load(tmp_path / "job.yaml")
    problems = Problems()
    source = resolve(file.job.spec.data.train, file.base, "train", problems)
    assert source is not None
    sheet = read(source, frozenset(file.job.spec.data.columns.values()), problems)
    problems.raise_if_any()
    assert len(sheet) == len(TABLE) == written.rows
    assert sheet.cells["label"] == [row["label"] for row in TABLE]
    assert file.job.spec.data.labels == ["bad", "good"]


def test_plain_text_is_a_line_a_row(tmp_path: Path) -> None:
    (tmp_path / "tales.txt").write_text("\n".join(sentence(at, 12) for at in range(20)))
    init(tmp_path / "tales.txt", tmp_path / "job.yaml")
    job = load(tmp_path / "job.yaml").job
    assert (job.metadata.name, job.spec.task) == ("tales", "causal-lm")


def test_files_beside_a_training_file_are_its_held_out_rows(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        write_csv(tmp_path / name, TABLE, ";")
    init(tmp_path / "train.csv", tmp_path / "job.yaml")
    data = load(tmp_path / "job.yaml").job.spec.data
    assert (data.validation.uri, data.validation.delimiter) == ("dev.csv", ";")
    assert data.test is not None
    assert data.test.uri == "test.csv"


def test_locations_are_relative_to_the_job_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "jobs").mkdir()
    write_csv(tmp_path / "data" / "my rows: 1.csv", TABLE)
    monkeypatch.chdir(tmp_path / "data")
    init("my rows: 1.csv", "../jobs/job.yaml")
    file = load(tmp_path / "jobs" / "job.yaml")
    assert file.job.spec.data.train.uri == "../data/my rows: 1.csv"
    assert file.job.metadata.name == "my-rows-1"


def test_a_group_column_is_offered_in_a_comment(tmp_path: Path) -> None:
    table = rows(40, text=sentence, label=pick("a", "b"), customer_id=lambda at: f"c{at // 4}")
    write_csv(tmp_path / "rows.csv", table)
    assert "groupBy: customer_id" in init(tmp_path / "rows.csv", tmp_path / "job.yaml").text


def test_texts_in_other_languages_get_a_model_that_reads_them(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "rows.csv",
        rows(40, text=lambda at: f"это хороший фильм {at}", label=pick("a", "b")),
    )
    init(tmp_path / "rows.csv", tmp_path / "job.yaml")
    assert load(tmp_path / "job.yaml").job.spec.model.name == "FacebookAI/xlm-roberta-base"


def test_a_model_may_be_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TABLE)
    init(tmp_path / "rows.csv", tmp_path / "a.yaml", model="org/model")
    assert load(tmp_path / "a.yaml").job.spec.model.name == "org/model"
    init(tmp_path / "rows.csv", tmp_path / "b.yaml", model=str(tmp_path))
    assert load(tmp_path / "b.yaml").job.spec.model.uri == str(tmp_path)


def test_a_file_is_replaced_only_when_that_is_asked_for(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TABLE)
    target = tmp_path / "job.yaml"
    target.write_text("precious")
    with pytest.raises(SpecError, match="exists already") as raised:
        init(tmp_path / "rows.csv", target)
    assert "--force" in raised.value.remedy
    assert target.read_text() == "precious"
    init(tmp_path / "rows.csv", target, force=True)
    assert load(target).job.metadata.name == "rows"
    assert sorted(os.listdir(tmp_path)) == ["job.yaml", "rows.csv"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"text,label\n", "holds no rows"),
        ("a.csv", b"good film,1\nbad film,0\n", "looks like data"),
        ("a.csv", b"text,text\na,b\n", "names a column twice"),
        ("a.csv", b"text,\na,b\n", "without a name"),
        ("a.csv", b"id,n\n1,2\n3,4\n", "no column looks like text"),
        ("a.jsonl", b'{"text": "a"\n', "is not JSONL"),
        ("a.jsonl", b"1\n2\n", "every row must be an object"),
        ("a.json", b"[1", "is not JSON"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as parquet"),
        ("a.gz", b"\x1f\x8b\x08\x00", "is packed"),
        ("a.bin", b"\x00\x01\x02", "neither a table nor text"),
        ("a.csv", b"text,label\n\x81\x8d,a\n", "neither UTF-8 nor cp1252"),
    ],
    ids=[
        "an empty file",
        "a header alone",
        "no header",
        "a column twice",
        "a column without a name",
        "numbers alone",
        "broken JSON lines",
        "lines that are no objects",
        "broken JSON",
        "a cut Parquet file",
        "a packed file",
        "bytes",
        "bytes of no encoding",
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        init(tmp_path / name, tmp_path / "job.yaml")
    assert not (tmp_path / "job.yaml").exists()


@pytest.mark.parametrize("name", ["missing.csv", "."], ids=["no file", "a folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        init(tmp_path / name, tmp_path / "job.yaml")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TABLE)
    with pytest.raises(SpecError, match="there is no folder"):
        init(tmp_path / "rows.csv", tmp_path / "nowhere" / "job.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        init(tmp_path / "rows.csv", tmp_path)


def test_the_written_file_says_what_its_guesses_rest_on(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TABLE)
    written = init(tmp_path / "rows.csv", tmp_path / "job.yaml")
    assert "30 rows" in str(written)
    assert "'label' holds 2 different values" in str(written)
    assert "tunefleet check" in str(written)
    assert "<table>" in written._repr_html_()


def test_every_commented_out_line_is_right_when_it_is_taken_in(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", TABLE)
    text = init(tmp_path / "rows.csv", tmp_path / "job.yaml").text
    offered = [line for line in text.splitlines() if line.startswith("  ") and "# " in line[:6]]
    assert len(offered) >= 4
    for line in offered:
        indent = line[: len(line) - len(line.lstrip())]
        parse(text.replace(line, indent + line.strip().removeprefix("# ")), "job.yaml")


@pytest.mark.parametrize(
    "text",
    ["plain", "two words", "no", "1", "1.0", "null", "", " a", "a: b", "a #b", "*", "é", "2026-01-01", '"', "a\nb", "\u2028", "[a]", "a,b", "~", "y"],
    ids=repr,
)  # fmt: skip
def test_any_text_survives_being_written(text: str) -> None:
    assert read_document(f"[{quoted(text)}]", "x").value == [text]
