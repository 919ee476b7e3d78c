from __future__ import annotations

import pytest

from tunefleet.api.tasks import declaration_of
from tunefleet.evaluate.inputs import InputColumn, check_item, input_columns, single_text

TEXT = (InputColumn(name="text", kind="text"),)
PAIR = (*TEXT, InputColumn(name="textPair", kind="text", required=False))
CHAT = (InputColumn(name="messages", kind="messages"),)


@pytest.mark.parametrize(
    ("task", "options", "data", "expected"),
    [
        pytest.param(
            "text-classification",
            {},
            {"text": ["a"], "label": [0]},
            [("text", True)],
            id="a label is not an input, nor is a pair the data never had",
        ),
        pytest.param(
            "text-classification",
            {},
            {"text": ["a", "b"], "textPair": ["c", "d"], "label": [0, 1]},
            [("text", True), ("textPair", True)],
            id="a model that only saw pairs needs pairs",
        ),
        pytest.param(
            "text-classification",
            {"problem": "regression"},
            {"text": ["a"], "label": [0.5]},
            [("text", True)],
            id="a number is not an input",
        ),
        pytest.param(
            "causal-lm",
            {"format": "instruction"},
            {"prompt": ["a"], "completion": ["b"]},
            [("prompt", True)],
            id="a completion is what is written",
        ),
        pytest.param(
            "causal-lm",
            {"format": "instruction"},
            {"prompt": ["a", "b"], "completion": ["c", "d"], "system": ["s", ""]},
            [("prompt", True), ("system", False)],
            id="a system message that some rows have is optional",
        ),
        pytest.param(
            "causal-lm",
            {"format": "chat"},
            {"messages": [[{"role": "user", "content": "a"}]]},
            [("messages", True)],
            id="a chat is asked with a chat",
        ),
        pytest.param(
            "causal-lm", {"format": "text"}, {"text": ["a"]}, [("text", True)], id="a text goes on"
        ),
    ],
)
def test_inputs_are_the_columns_that_are_not_predicted(
    task: str,
    options: dict[str, object],
    data: dict[str, list[object]],
    expected: list[tuple[str, bool]],
) -> None:
    declared = declaration_of(task)
    columns = input_columns(declared, declared.options.model_validate(options), data)
    assert [(column.name, column.required) for column in columns] == expected


@pytest.mark.parametrize(
    ("item", "columns", "code", "field"),
    [
        pytest.param("a text", TEXT, "wrong_type", "", id="an item that is a text"),
        pytest.param([], TEXT, "wrong_type", "", id="an item that is a list"),
        pytest.param({}, TEXT, "missing_field", "text", id="an item without its text"),
        pytest.param({"text": None}, TEXT, "missing_field", "text", id="a text that is null"),
        pytest.param({"text": 3}, TEXT, "wrong_type", "text", id="a number for a text"),
        pytest.param({"text": True}, TEXT, "wrong_type", "text", id="true for a text"),
        pytest.param({"text": " \n"}, TEXT, "empty_text", "text", id="only white space"),
        pytest.param(
            {"text": "a" * 21}, TEXT, "text_too_long", "text", id="one character too many"
        ),
        pytest.param({"text": "\ud800"}, TEXT, "bad_text", "text", id="half a surrogate pair"),
        pytest.param({"text": "a", "x": 1}, TEXT, "unknown_field", "x", id="a field too many"),
        pytest.param(
            {"text": "a", "textPair": ""}, PAIR, "empty_text", "textPair", id="empty pair"
        ),
        pytest.param({"messages": "hi"}, CHAT, "wrong_type", "messages", id="a text for a chat"),
        pytest.param({"messages": []}, CHAT, "empty_list", "messages", id="a chat of no turns"),
        pytest.param(
            {"messages": [{"role": "user"}]},
            CHAT,
            "wrong_type",
            "messages[0]",
            id="a turn without content",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "a" * 15},
                    {"role": "user", "content": "a" * 6},
                ]
            },
            CHAT,
            "text_too_long",
            "messages[1].content",
            id="turns that are too long together",
        ),
    ],
)
def test_a_bad_item_is_told_by_code_and_field(
    item: object, columns: tuple[InputColumn, ...], code: str, field: str
) -> None:
    problem = check_item(item, columns, max_characters=20)
    assert problem is not None
    assert (problem.code, problem.field) == (code, field)
    assert problem.message


@pytest.mark.parametrize(
    ("item", "columns"),
    [
        pytest.param({"text": "a" * 20}, TEXT, id="as long as allowed"),
        pytest.param({"text": "a"}, PAIR, id="without the optional field"),
        pytest.param({"text": "a", "textPair": None}, PAIR, id="with an optional null"),
        pytest.param({"text": "héllo 🎬"}, TEXT, id="any script"),
        pytest.param({"messages": [{"role": "user", "content": "hi"}]}, CHAT, id="one turn"),
    ],
)
def test_a_good_item_passes(item: object, columns: tuple[InputColumn, ...]) -> None:
    assert check_item(item, columns, max_characters=20) is None


def test_a_single_required_text_is_found_by_itself() -> None:
    assert single_text(TEXT) == "text"
    assert single_text(PAIR) == "text"
    assert single_text(CHAT) is None
    assert single_text((*TEXT, InputColumn(name="other", kind="text"))) is None
