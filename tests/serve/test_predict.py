"""``predict`` from files, texts and standard input, with a real bundle."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serve.conftest import write_result
from tests.tiny_bundles import LABELS, tiny_bundle
from tests.tiny_models import SENTENCES, tiny_bert
from tunefleet.api.errors import DataError, ModelError, SpecError, StorageError, TunefleetError
from tunefleet.verbs.predict import predict
from tunefleet.verbs.target import find_bundle

TEXTS = list(SENTENCES[:4])


@pytest.fixture(scope="module")
def wanted(bundle: Path) -> list[dict[str, object]]:
    return [row.prediction for row in predict(bundle, texts=TEXTS, device="cpu").rows]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _csv(path: Path) -> None:
    path.write_text("id,review\n" + "".join(f'r{i},"{t}"\n' for i, t in enumerate(TEXTS)))


def _jsonl(path: Path) -> None:
    rows = [json.dumps({"id": f"r{i}", "text": t, "stars": 3}) for i, t in enumerate(TEXTS)]
    path.write_text("\n".join(rows) + "\n")


def _parquet(path: Path) -> None:
    table = pa.table({"id": [f"r{i}" for i in range(len(TEXTS))], "text": TEXTS})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("name", "write", "first_line"),
    [
        pytest.param("in.csv", _csv, 2, id="CSV with the column of the training data"),
        pytest.param("in.jsonl", _jsonl, 1, id="JSONL with the column of the task"),
        pytest.param("in.parquet", _parquet, None, id="Parquet, which has no lines"),
    ],
)
def test_a_file_is_answered_row_by_row(
    bundle: Path,
    tmp_path: Path,
    wanted: list[dict[str, object]],
    name: str,
    write: Callable[[Path], None],
    first_line: int | None,
) -> None:
    write(tmp_path / name)
    seen: list[tuple[int, int]] = []
    told = predict(
        bundle,
        file=tmp_path / name,
        out=tmp_path / "out.jsonl",
        batch_size=3,
        device="cpu",
        progress=lambda done, total: seen.append((done, total)),
    )
    found = lines(tmp_path / "out.jsonl")
    assert [record["row"] for record in found] == [1, 2, 3, 4]
    assert [record["id"] for record in found] == ["r0", "r1", "r2", "r3"]
    assert found[0].get("line") == first_line
    assert [record["input"] for record in found] == [{"text": text} for text in TEXTS]
    for record, answer in zip(found, wanted, strict=True):
        prediction = record["prediction"]
        assert isinstance(prediction, dict)
        assert prediction["label"] == answer["label"]
        assert prediction["score"] == pytest.approx(answer["score"], abs=1e-5)
    assert (told.count, told.out) == (4, str(tmp_path / "out.jsonl"))
    assert seen == [(3, 4), (4, 4)]


def test_plain_text_is_one_item_a_line(
    bundle: Path, tmp_path: Path, wanted: list[dict[str, object]]
) -> None:
    (tmp_path / "in.txt").write_text("\n\n".join(TEXTS))
    rows = predict(bundle, file=tmp_path / "in.txt", device="cpu").rows
    assert [row.line for row in rows] == [1, 3, 5, 7]
    assert [row.prediction["label"] for row in rows] == [answer["label"] for answer in wanted]


class Standard(io.TextIOWrapper):
    """Standard input with these bytes."""

    def __init__(self, body: bytes) -> None:
        super().__init__(io.BytesIO(body), encoding="utf-8")


@pytest.mark.parametrize(
    "body",
    ["\n".join(json.dumps({"text": text}) for text in TEXTS), "\n".join(TEXTS)],
    ids=["JSONL", "plain lines"],
)
def test_a_pipe_is_read_and_written(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
) -> None:
    monkeypatch.setattr("sys.stdin", Standard(body.encode()))
    told = predict(bundle, file="-", out="-", device="cpu")
    assert told.count == 4
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["input"]["text"] for record in written] == TEXTS


def test_answers_do_not_depend_on_what_they_are_batched_with(bundle: Path) -> None:
    together = predict(bundle, texts=list(SENTENCES), batch_size=16, device="cpu").rows
    alone = predict(bundle, texts=list(SENTENCES), batch_size=1, device="cpu").rows
    for one, other in zip(together, alone, strict=True):
        assert one.input == other.input
        assert one.prediction["score"] == pytest.approx(other.prediction["score"], abs=1e-5)


def test_predictions_draw_themselves_in_a_notebook(bundle: Path) -> None:
    page = predict(bundle, texts=["<b>bold</b> film"], device="cpu")._repr_html_()
    assert "&lt;b&gt;" in page
    assert any(label in page for label in LABELS)


Fault = tuple[str, dict[str, object], type[TunefleetError], str]
FAULTS: list[Fault] = [
    ("nothing to predict", {}, SpecError, "nothing to predict"),
    ("texts and a file", {"texts": ["a"], "file": "in.csv"}, SpecError, "too much"),
    ("an empty text", {"texts": ["a", " "]}, DataError, "row 2: text: must not be empty"),
    ("an unknown column", {"items": [{"text": "a", "b": 1}]}, DataError, "unknown field"),
    ("no such file", {"file": "none.csv"}, DataError, "no file matches"),
    ("a file of an unknown kind", {"file": "in.docx"}, DataError, "format"),
    ("a file without the column", {"file": "other.csv"}, DataError, "no column 'text'"),
    ("a file without rows", {"file": "empty.jsonl"}, DataError, "no rows"),
    ("an empty cell", {"file": "hole.csv"}, DataError, r"hole.csv:3: text: must not be empty"),
    ("a number in a text's place", {"file": "number.jsonl"}, DataError, r"number.jsonl:2"),
    ("a line that is no JSON", {"file": "broken.jsonl"}, DataError, r"broken.jsonl:2: not JSON"),
    ("an answer file that is a folder", {"texts": ["a"], "out": "."}, StorageError, "folder"),
    ("an answer file in no folder", {"texts": ["a"], "out": "no/o.jsonl"}, StorageError, "exist"),
    (
        "answers over their questions",
        {"file": "other.csv", "out": "other.csv"},
        SpecError,
        "replace the file",
    ),
    ("no batch at all", {"texts": ["a"], "batch_size": 0}, SpecError, "at least 1"),
]


@pytest.mark.parametrize(
    ("given", "kind", "said"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_what_cannot_be_predicted_is_told(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, object],
    kind: type[TunefleetError],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.docx").write_bytes(b"PK")
    Path("other.csv").write_text("id,body\n1,hello\n")
    Path("empty.jsonl").write_text("")
    Path("hole.csv").write_text("id,text\n1,hello\n2,\n")
    Path("number.jsonl").write_text('{"text": "a"}\n{"text": 5}\n')
    Path("broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    out = {"out": "out.jsonl"} if "out" not in given else {}
    with pytest.raises(kind, match=said):
        predict(bundle, **out, **given, device="cpu")  # type: ignore[arg-type]
    assert not Path("out.jsonl").exists()
    assert not list(Path().glob(".out*"))


def test_an_earlier_answer_file_survives_a_failure(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("kept")
    (tmp_path / "in.csv").write_text("text\nfine\n\xa0\n", encoding="utf-8")
    with pytest.raises(DataError):
        predict(bundle, file=tmp_path / "in.csv", out=out, device="cpu")
    assert out.read_text() == "kept"


# -- which bundle is meant ---------------------------------------------------------------


JOB = """
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tiny}
spec:
  task: text-classification
  model: {uri: base}
  data: {train: {uri: train.csv}}
  checkpoints: {uri: runs}
"""


def test_a_run_and_a_job_name_their_newest_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    with pytest.raises(ModelError, match="no run of tiny has made a bundle yet"):
        find_bundle(tmp_path / "job.yaml")
    for number in (1, 2, 3):
        run = tmp_path / "runs" / "default" / "tiny" / f"run-{number:04d}"
        run.mkdir(parents=True)
        (run / "RUN.json").write_text("{}")
        if number < 3:
            folder = run / "bundle" / bundle.name
            shutil.copytree(bundle, folder)
            write_result(run, folder, None)
    newest = tmp_path / "runs" / "default" / "tiny" / "run-0002"
    for named in (tmp_path / "job.yaml", newest, newest.as_uri(), newest / "bundle" / bundle.name):
        found = find_bundle(named)
        assert found.folder == newest / "bundle" / bundle.name
        assert found.metrics == {"f1_macro": 0.875}
    with pytest.raises(ModelError, match="has no bundle"):
        find_bundle(newest.with_name("run-0003"))
    moved = tmp_path / "moved"
    newest.rename(moved)
    assert find_bundle(moved).folder == moved / "bundle" / bundle.name


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path: None, "does not exist", id="nothing there"),
        pytest.param(tiny_bert, "neither a bundle", id="a base model"),
        pytest.param(lambda path: path.write_text("x"), "neither a bundle", id="a file"),
    ],
)
def test_what_is_no_bundle_is_told(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "it")
    with pytest.raises(ModelError, match=said):
        find_bundle(tmp_path / "it")


# -- other tasks ---------------------------------------------------------------------------


def test_a_pair_is_read_from_both_columns(tmp_path: Path) -> None:
    columns: dict[str, Sequence[object]] = {
        "text": list(SENTENCES),
        "textPair": list(reversed(SENTENCES)),
        "label": [index % 3 for index in range(len(SENTENCES))],
    }
    bundle = tiny_bundle(tmp_path, columns=columns)
    (tmp_path / "in.csv").write_text("text,textPair\na film,a book\n")
    (row,) = predict(bundle, file=tmp_path / "in.csv", device="cpu").rows
    assert row.input == {"text": "a film", "textPair": "a book"}
    with pytest.raises(SpecError, match="text, textPair"):
        predict(bundle, texts=["a film"])
    (tmp_path / "one.csv").write_text("text\na film\n")
    with pytest.raises(DataError, match="no column 'textPair'"):
        predict(bundle, file=tmp_path / "one.csv")


def test_a_chat_is_answered(tmp_path: Path) -> None:
    options: dict[str, object] = {"format": "chat", "maxNewTokens": 4}
    bundle = tiny_bundle(tmp_path, task_name="causal-lm", options=options, labels=())
    turn = [{"role": "user", "content": "hello"}]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turn}) + "\n")
    (tmp_path / "in.tsv").write_text('messages\n"' + json.dumps(turn).replace('"', '""') + '"\n')
    for name in ("in.jsonl", "in.tsv"):
        (row,) = predict(bundle, file=tmp_path / name, device="cpu").rows
        assert row.input == {"messages": turn}
        assert row.prediction
