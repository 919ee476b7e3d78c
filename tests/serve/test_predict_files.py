"""How ``predict`` reads a file: as the training data was written, unless something else is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny_bundles import tiny_bundle
from tunefleet.api.errors import DataError, SpecError
from tunefleet.api.job import SourceSpec
from tunefleet.verbs.predict import predict

ROWS = ("Ein schöner Film", "Nie wieder; wirklich")
CSV = 'id;kritik\n1;Ein schöner Film\n2;"Nie wieder; wirklich"\n'


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose training data had semicolons and the bytes of Windows."""
    return tiny_bundle(
        tmp_path_factory.mktemp("german"),
        sources={"text": "kritik"},
        written=SourceSpec(uri="train.csv", delimiter=";", encoding="cp1252"),
    )


@pytest.mark.parametrize(
    ("name", "body", "options"),
    [
        pytest.param("in.csv", CSV.encode("cp1252"), {}, id="a file as in training"),
        pytest.param("in.csv", CSV.encode(), {}, id="UTF-8 is never taken for anything else"),
        pytest.param(
            "in.csv",
            CSV.replace(";", "|").replace('"Nie wieder|', '"Nie wieder;').encode("utf-16"),
            {"delimiter": "|", "encoding": "utf-16"},
            id="options count more than training",
        ),
        pytest.param("export", CSV.encode(), {"format": "csv"}, id="a file without an ending"),
        pytest.param(
            "in.jsonl",
            "".join(json.dumps({"text": text}) + "\n" for text in ROWS).encode(),
            {},
            id="a delimiter matters to CSV alone",
        ),
    ],
)
def test_a_file_is_read_as_it_is_written(
    german: Path, tmp_path: Path, name: str, body: bytes, options: dict[str, str]
) -> None:
    (tmp_path / name).write_bytes(body)
    answered = predict(german, file=tmp_path / name, device="cpu", **options)  # type: ignore[arg-type]
    assert tuple(row.input["text"] for row in answered.rows) == ROWS


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        pytest.param(
            b"id,kritik\n1,Film\n", {}, 'give --delimiter ","', id="another delimiter is offered"
        ),
        pytest.param(
            CSV.encode("latin-1"),
            {"encoding": "ascii"},
            r"in.csv:2: byte 0xF6 .* is not ascii\n +→ --encoding latin-1",
            id="the encoding is offered, with file and line",
        ),
    ],
)
def test_a_file_that_is_read_wrongly_is_told(
    german: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    options: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_bytes(body)
    with pytest.raises(DataError, match=said):
        predict(german, file="in.csv", device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"format": "docx"}, "no format 'docx'", id="an unknown format"),
        pytest.param({"encoding": "utf-88"}, "--encoding: 'utf-88'", id="an unknown encoding"),
        pytest.param({"delimiter": "::"}, "not one character", id="two characters"),
        pytest.param({"format": "jsonl", "delimiter": ";"}, "has no effect", id="no effect"),
        pytest.param({"delimiter": '"'}, "--delimiter: a quote", id="a quote as delimiter"),
    ],
)
def test_an_option_that_cannot_be_is_told(
    german: Path, tmp_path: Path, given: dict[str, str], said: str
) -> None:
    (tmp_path / "in.csv").write_text(CSV)
    with pytest.raises(SpecError, match=said):
        predict(german, file=tmp_path / "in.csv", device="cpu", **given)  # type: ignore[arg-type]


def test_an_option_of_files_without_a_file_is_told(german: Path) -> None:
    with pytest.raises(SpecError, match="there is none"):
        predict(german, texts=["Film"], delimiter=";")
