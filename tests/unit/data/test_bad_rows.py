"""Rows that cannot be trained on, and what is only worth a warning."""

from __future__ import annotations

import json

import pytest

from tests.unit.data.conftest import Read, Refused
from tunefleet.api.words import Severity


def csv(*rows: str, header: str = "text,label") -> str:
    return "\n".join([header, *rows]) + "\n"


PLENTY = [f"row number {i},{'ab'[i % 2]}" for i in range(40)]
ONE: dict[str, object] = {"train": {"uri": "rows.csv"}}
TWO: dict[str, object] = {"train": {"uri": "rows.csv"}, "validation": {"uri": "held.csv"}}

Case = tuple[dict[str, str | bytes], dict[str, object], str, int | None, str, str]

CASES: dict[str, Case] = {
    "no rows": ({"rows.csv": csv()}, ONE, "", None, "there are no rows in rows.csv", "add rows"),
    "one row": (
        {"rows.csv": csv("only,a")},
        ONE,
        "",
        None,
        "1 training row: nothing can be learnt from fewer than 3",
        "add rows",
    ),
    "two rows": (
        {"rows.csv": csv("first,a", "second,b")},
        ONE,
        "",
        None,
        "training rows: nothing can be learnt from fewer than 3",
        "add rows",
    ),
    "two rows beside a validation file": (
        {"rows.csv": csv("first,a", "second,b"), "held.csv": csv("third,a")},
        TWO,
        "",
        None,
        "2 training rows",
        "add rows",
    ),
    "an empty validation file": (
        {"rows.csv": csv(*PLENTY), "held.csv": csv()},
        TWO,
        "",
        None,
        "there are no rows in held.csv",
        "add rows",
    ),
    "nothing to validate with, because every label stands once": (
        {"rows.csv": csv("r1,a", "r2,b", "r3,c", "r4,d")},
        ONE,
        "",
        None,
        "no validation rows",
        "larger fraction",
    ),
    "a single class": (
        {"rows.csv": csv(*(f"row {i},same" for i in range(40)))},
        ONE,
        "",
        None,
        "every training row has the label 'same': there is nothing to tell apart",
        "add rows of at least one other label",
    ),
    "an empty text": (
        {"rows.csv": csv(*PLENTY, "  ,a")},
        ONE,
        "rows.csv",
        42,
        "column 'text' is empty",
        "fill the cell or remove the row",
    ),
    "an empty label": (
        {"rows.csv": csv(*PLENTY, "fine,")},
        ONE,
        "rows.csv",
        42,
        "column 'label' is empty",
        "fill the cell or remove the row",
    ),
    "a null in JSONL": (
        {"rows.jsonl": '{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n'},
        {"train": {"uri": "rows.jsonl"}},
        "rows.jsonl",
        2,
        "column 'text' is empty",
        "fill the cell",
    ),
    "a key that one JSONL row lacks": (
        {"rows.jsonl": '{"text": "a", "label": "x"}\n{"text": "b"}\n'},
        {"train": {"uri": "rows.jsonl"}},
        "rows.jsonl",
        2,
        "column 'label' is empty",
        "fill the cell",
    ),
    "a cell of several lines keeps later line numbers right": (
        {"rows.csv": csv('"one\ntwo\nthree",a', "fine,")},
        ONE,
        "rows.csv",
        5,
        "column 'label' is empty",
        "fill the cell",
    ),
    "a label that is not in data.labels": (
        {"rows.csv": csv(*PLENTY, "odd,A")},
        {**ONE, "labels": ["a", "b"]},
        "rows.csv",
        42,
        "label 'A' is not in data.labels; did you mean 'a'?",
        "add the label to data.labels",
    ),
    "a validation label that is never trained": (
        {"rows.csv": csv(*PLENTY), "held.csv": csv("fine,a", "odd,c")},
        TWO,
        "held.csv",
        3,
        "label 'c' never stands in the training rows",
        "add training rows with this label",
    ),
    "a given label that only validation has": (
        {"rows.csv": csv(*PLENTY), "held.csv": csv("fine,a", "odd,c")},
        {**TWO, "labels": ["a", "b", "c"]},
        "",
        None,
        "label 'c' stands in 1 validation rows and in no training row",
        "add training rows with this label",
    ),
    "labels that are one label": (
        {"rows.csv": csv("r,1")},
        {**ONE, "labels": ["1", "1.0"]},
        "",
        None,
        "'1' and '1.0' are one label",
        "keep one spelling",
    ),
    "a list where a label is read": (
        {"rows.jsonl": '{"text": "a", "label": ["x", "y"]}\n'},
        {"train": {"uri": "rows.jsonl"}},
        "rows.jsonl",
        1,
        "holds a list where one label is read",
        "problem: multi-label",
    ),
    "an object where a text is read": (
        {"rows.jsonl": '{"text": {"en": "a"}, "label": "x"}\n'},
        {"train": {"uri": "rows.jsonl"}},
        "rows.jsonl",
        1,
        "holds an object where a text is read",
        "map another column",
    ),
    "a repeated row that is refused": (
        {"rows.csv": csv(*PLENTY, PLENTY[3])},
        {**ONE, "duplicates": "refuse"},
        "rows.csv",
        42,
        "this row repeats an earlier one",
        "data.duplicates: drop",
    ),
    "a mapping to a column that the task does not have": (
        {"rows.csv": csv(*PLENTY)},
        {**ONE, "columns": {"txt": "text"}},
        "",
        None,
        "the task has no column 'txt'; did you mean 'text'?",
        "its columns are text, textPair, label",
    ),
    "a group column that is not there": (
        {"rows.csv": csv(*PLENTY)},
        {**ONE, "validation": {"fraction": 0.2, "groupBy": "customer"}},
        "rows.csv",
        None,
        "there is no column 'customer'",
        "groupBy must name a column",
    ),
    "one group for everything": (
        {"rows.csv": csv(*(f"{row},same" for row in PLENTY), header="text,label,customer")},
        {**ONE, "validation": {"fraction": 0.2, "groupBy": "customer"}},
        "",
        None,
        "no group of 'customer' can be held out",
        "group by another column",
    ),
    "a row without a group": (
        {
            "rows.csv": csv(
                *(f"{row},{i % 9}" for i, row in enumerate(PLENTY)),
                "last,a,",
                header="text,label,customer",
            )
        },
        {**ONE, "validation": {"fraction": 0.2, "groupBy": "customer"}},
        "rows.csv",
        42,
        "column 'customer' is empty, so the row's group is not known",
        "fill the cell",
    ),
}


@pytest.mark.parametrize(
    ("files", "data", "file", "line", "message", "remedy"),
    [pytest.param(*case, id=title) for title, case in CASES.items()],
)
def test_bad_rows(
    refused: Refused,
    files: dict[str, str | bytes],
    data: dict[str, object],
    file: str,
    line: int | None,
    message: str,
    remedy: str,
) -> None:
    problems = refused(files, data)
    found = next((p for p in problems if message in p.message), None)
    assert found is not None, problems
    assert (found.file, found.line) == (file, line)
    assert remedy in found.remedy


def test_a_format_without_lines_names_the_row(refused: Refused) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b", None], "label": [1, 2, 1]}), sink)
    problems = refused({"rows.parquet": sink.getvalue()}, {"train": {"uri": "rows.parquet"}})
    assert [str(p) for p in problems] == [
        "rows.parquet: column 'text' is empty (row 3)\n    → fill the cell or remove the row"
    ]


def chat(*turns: tuple[str, object], **more: object) -> str:
    messages = [{"role": role, "content": content, **more} for role, content in turns]
    return json.dumps({"messages": messages})


GOOD_CHAT = chat(("user", "hello"), ("assistant", "hi"))

CHATS: dict[str, tuple[str, str, str]] = {
    "an unknown role": (chat(("human", "hello")), "the role 'human'", "roles are system"),
    "no content": (chat(("user", "")), "message 1 (user) has no content", "a text"),
    "content in parts": (chat(("user", [{"text": "a"}])), "has no content", "a text"),
    "ShareGPT's names": (
        json.dumps({"messages": [{"from": "human", "value": "hello"}]}),
        "message 1 has from/value instead of role/content",
        "rename from to role",
    ),
    "a text that is no JSON": (
        json.dumps({"messages": "[{'role': 'user'}]"}),
        "messages are not JSON",
        '"role": "user"',
    ),
    "no messages": (json.dumps({"messages": []}), "holds a list where messages are read", "role"),
    "a message that is no object": (
        json.dumps({"messages": ["hello"]}),
        "message 1 is a text",
        '"role": "user"',
    ),
    "a part that would be ignored": (
        chat(("user", "hello"), tool_calls=[1]),
        "message 1 has tool_calls, which would be ignored",
        "keep role and content only",
    ),
}


@pytest.mark.parametrize(
    ("row", "message", "remedy"), [pytest.param(*case, id=name) for name, case in CHATS.items()]
)
def test_a_broken_chat(refused: Refused, row: str, message: str, remedy: str) -> None:
    problems = refused(
        {"rows.jsonl": f"{GOOD_CHAT}\n{row}\n"},
        {"train": {"uri": "rows.jsonl"}},
        task="causal-lm",
        options={"format": "chat"},
    )
    assert (problems[0].file, problems[0].line) == ("rows.jsonl", 2)
    assert message in problems[0].message
    assert remedy in problems[0].remedy


NUMBERS: dict[str, tuple[str, str, str]] = {
    "a decimal comma": ('"3,5"', "'3,5' is no number", "a decimal point, not a comma"),
    "a word": ("good", "'good' is no number", "regression needs numbers"),
    "not a number": ("inf", "inf is not finite", "remove the row"),
}


@pytest.mark.parametrize(
    ("cell", "message", "remedy"), [pytest.param(*case, id=name) for name, case in NUMBERS.items()]
)
def test_a_broken_number(refused: Refused, cell: str, message: str, remedy: str) -> None:
    problems = refused(
        {"rows.csv": csv("fine,1.5", f"odd,{cell}")}, ONE, options={"problem": "regression"}
    )
    assert problems[0].line == 3
    assert message in problems[0].message
    assert remedy in problems[0].remedy


def test_label_names_have_no_effect_in_a_regression(refused: Refused) -> None:
    problems = refused(
        {"rows.csv": csv("fine,1.5")}, {**ONE, "labels": ["a"]}, options={"problem": "regression"}
    )
    assert problems[0].where == "spec.data.labels"


# -- warnings ----------------------------------------------------------------------------

Notice = tuple[dict[str, str | bytes], dict[str, object], str, Severity, int | None, str]

NOTICES: dict[str, Notice] = {
    "repeated rows": (
        {"rows.csv": csv(*PLENTY, *PLENTY[:3])},
        ONE,
        "duplicates",
        Severity.WARNING,
        3,
        "3 of 43 rows repeat an earlier row",
    ),
    "repeated rows that are left out": (
        {"rows.csv": csv(*PLENTY, *PLENTY[:3])},
        {**ONE, "duplicates": "drop"},
        "duplicates",
        Severity.INFO,
        3,
        "and are left out",
    ),
    "the same text with two labels": (
        {"rows.csv": csv(*PLENTY, "row number 0,b")},
        ONE,
        "conflicting labels",
        Severity.WARNING,
        1,
        "for example rows.csv:42 and rows.csv:2",
    ),
    "rows that stand in training and validation": (
        {"rows.csv": csv(*PLENTY), "held.csv": csv("row number 7,b", "new,a", "row number 8,b")},
        TWO,
        "leak",
        Severity.WARNING,
        2,
        "2 of 3 validation rows also stand in the training rows, so the validation numbers "
        "will look better than they are (held.csv:2 = rows.csv:9; held.csv:4 = rows.csv:10)",
    ),
    "few rows to measure with": (
        {"rows.csv": csv(*PLENTY)},
        ONE,
        "few rows",
        Severity.WARNING,
        4,
        "one row moves a metric by 25.0%",
    ),
    "a label that few rows have": (
        {"rows.csv": csv(*PLENTY, *(f"rare {i},c" for i in range(4)))},
        ONE,
        "rare labels",
        Severity.WARNING,
        1,
        "('c' 4)",
    ),
    "a label of the list that no row has": (
        {"rows.csv": csv(*PLENTY)},
        {**ONE, "labels": ["a", "b", "never"]},
        "label without rows",
        Severity.WARNING,
        1,
        "no training row has the label 'never'",
    ),
    "classes in balance are only told": (
        {"rows.csv": csv(*PLENTY)},
        ONE,
        "class balance",
        Severity.INFO,
        None,
        "50.0% of the training rows",
    ),
    "one class that outweighs all others": (
        {"rows.csv": csv(*(f"t{i},{'b' if i % 20 == 0 else 'a'}" for i in range(200)))},
        ONE,
        "class balance",
        Severity.WARNING,
        None,
        "95.0% of the training rows have the label 'a'",
    ),
}


@pytest.mark.parametrize(
    ("files", "data", "code", "severity", "count", "message"),
    [pytest.param(*case, id=title) for title, case in NOTICES.items()],
)
def test_a_notice(
    read: Read,
    files: dict[str, str | bytes],
    data: dict[str, object],
    code: str,
    severity: Severity,
    count: int | None,
    message: str,
) -> None:
    found = [f for f in read(files, data).findings if f.code == code]
    assert len(found) == 1, found
    assert found[0].severity is severity
    assert found[0].count == count
    assert message in found[0].message


def test_sound_rows_bring_no_warning(read: Read) -> None:
    rows = csv(*(f"row number {i},{'ab'[i % 2]}" for i in range(400)))
    assert {f.severity for f in read({"rows.csv": rows}, ONE).findings} == {Severity.INFO}
