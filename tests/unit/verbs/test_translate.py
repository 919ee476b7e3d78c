"""Every kind of error that validating a job can give has a sentence of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from pydantic import ValidationError

from tunefleet.api.job import FineTuneJob
from tunefleet.verbs.locate import read_document
from tunefleet.verbs.translate import SENTENCES, issues_of

# What pydantic can say about a value, by the kind of schema and by the constraint it has.
OF_KIND = {
    "str": {"string_type", "string_unicode"},
    "int": {"int_type"},
    "float": {"float_type", "finite_number"},
    "bool": {"bool_type"},
    "list": {"list_type"},
    "dict": {"dict_type", "invalid_key"},
    "literal": {"literal_error"},
    "model": {"model_type"},
    "model-fields": {"missing", "extra_forbidden"},
    "function-after": {"value_error"},
    "nullable": set[str](),
    "union": set[str](),
    "default": set[str](),
    "definitions": set[str](),
    "definition-ref": set[str](),
    "model-field": set[str](),
    "no-info": set[str](),
}
OF_CONSTRAINT = {
    "gt": "greater_than",
    "ge": "greater_than_equal",
    "lt": "less_than",
    "le": "less_than_equal",
    "pattern": "string_pattern_mismatch",
}
NO_CONSTRAINTS = {"metadata", "serialization", "default", "ref", "schema_ref"}


def schemas(node: object) -> Iterator[Mapping[str, object]]:
    if isinstance(node, Mapping):
        if isinstance(node.get("type"), str):
            yield node
        for key, below in node.items():
            if key not in NO_CONSTRAINTS:
                yield from schemas(below)
    elif isinstance(node, list | tuple):
        for below in node:
            yield from schemas(below)


def possible() -> set[str]:
    found: set[str] = set()
    for schema in schemas(FineTuneJob.__pydantic_core_schema__):
        kind = str(schema["type"])
        found |= OF_KIND[kind]
        found |= {OF_CONSTRAINT[key] for key in schema if key in OF_CONSTRAINT}
        for key, word in (("min_length", "short"), ("max_length", "long")):
            if key in schema:
                found.add(f"{'string_' if kind == 'str' else ''}too_{word}")
    return found


def test_the_sentences_are_those_of_the_errors_that_can_occur_and_no_others() -> None:
    assert set(SENTENCES) == possible()


SPEC: dict[str, object] = {
    "task": "text-classification",
    "model": {"name": "a"},
    "data": {"train": {"uri": "a.csv"}},
}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("missing", {"task": None}),
        ("extra_forbidden", {"zzz": 1}),
        ("string_type", {"model": {"name": 5}}),
        ("string_unicode", {"model": {"name": "\ud83d"}}),
        ("string_too_short", {"model": {"name": ""}}),
        ("string_too_long", {"model": {"name": "a" * 254}}),
        ("string_pattern_mismatch", {"profile": "A B"}),
        ("int_type", {"training": {"epochs": 2.5}}),
        ("float_type", {"training": {"optimizer": {"learningRate": "x"}}}),
        ("finite_number", {"training": {"optimizer": {"learningRate": float("nan")}}}),
        ("bool_type", {"training": {"gradientCheckpointing": "on"}}),
        ("greater_than", {"training": {"epochs": 0}}),
        ("greater_than_equal", {"training": {"seed": -1}}),
        ("less_than", {"training": {"seed": 2**32}}),
        ("less_than_equal", {"training": {"epochs": 10**400}}),
        ("list_type", {"data": {"train": {"uri": "a"}, "labels": "x"}}),
        ("dict_type", {"data": {"train": {"uri": "a"}, "columns": []}}),
        ("model_type", {"training": []}),
        ("invalid_key", {"data": {"train": {"uri": "a"}, "columns": {"": "x"}}}),
        ("too_short", {"data": {"train": {"uri": "a"}, "labels": []}}),
        ("too_long", {"training": {"optimizer": {"betas": [0, 0, 0]}}}),
        ("literal_error", {"training": {"precision": "x"}}),
        ("value_error", {"task": "x"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_error_is_told_in_plain_words(kind: str, values: dict[str, object]) -> None:
    spec = {key: value for key, value in (SPEC | values).items() if value is not None}
    document: dict[str, object] = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "x"},
        "spec": spec,
    }
    located = read_document(json.dumps({"kind": "FineTuneJob"}), "job.yaml")
    located.value = document
    with pytest.raises(ValidationError) as raised:
        FineTuneJob.model_validate(document, by_alias=True, by_name=False)
    (issue,) = issues_of(raised.value, located)
    assert issue.kind in {kind, "string_pattern_mismatch", "string_too_short"}
    assert issue.message
    assert issue.remedy
    words = f"{issue.message} {issue.remedy}"
    for jargon in ("Input should", "Value error", "pydantic", "str_", "dict", "Extra inputs"):
        assert jargon not in words


def test_every_sentence_is_shown_once_above() -> None:
    marks = test_each_kind_of_error_is_told_in_plain_words.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(SENTENCES)
