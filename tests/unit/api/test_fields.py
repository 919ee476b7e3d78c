"""The tree of fields, and the words in which it tells what each field takes."""

from __future__ import annotations

import pytest

from tunefleet.api.fields import PATTERN_WORDS, Path, all_fields, dotted, field_at, root
from tunefleet.api.tasks import declarations


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spec.task", "one of causal-lm, text-classification"),
        ("spec.training.epochs", "a whole number above 0 and up to 100,000"),
        ("spec.training.microBatch", "auto or a whole number above 0 and up to 65,536"),
        ("spec.training.optimizer.learningRate", "a number above 0 and up to 10"),
        ("spec.training.gradientCheckpointing", "true or false"),
        ("spec.training.precision", "one of auto, fp32, bf16, fp64"),
        ("spec.data.columns", "a block of `name: text` lines"),
        ("spec.data.labels", "a list (each item: text)"),
        ("spec.data.train.uri", "text or a list (each item: text)"),
        ("spec.model.from", "a block with job, bundle"),
        (
            "spec.checkpoints.every",
            "auto or a duration such as 90s, 30m, 6h or 1d12h or a whole number above 0",
        ),
        ("spec.serving.gate.min", "a number from -1,000,000,000 and up to 1,000,000,000"),
    ],
)
def test_what_a_field_takes_is_said_in_words(path: str, words: str) -> None:
    field = field_at(path.split("."))
    assert field is not None
    assert field.expects() == words


def test_every_pattern_of_the_language_has_words() -> None:
    patterns = {
        option["pattern"]
        for field in all_fields().values()
        for option in field.options
        if "pattern" in option
    }
    assert patterns == set(PATTERN_WORDS)


def test_every_task_has_its_own_block() -> None:
    for declared in declarations().values():
        field = field_at(("spec", declared.field_name))
        assert field is not None
        assert set(field.children()) == {
            info.alias for info in declared.options.model_fields.values()
        }


def test_items_of_lists_and_values_of_free_mappings_are_fields_too() -> None:
    for path in (("spec", "data", "labels", 0), ("spec", "data", "columns", "text")):
        field = field_at(path)
        assert field is not None
        assert field.kinds == {"string"}


@pytest.mark.parametrize("path", [("nope",), ("spec", "task", "x"), ("spec", "model", 0)], ids=str)
def test_a_path_to_nowhere_is_none(path: Path) -> None:
    assert field_at(path) is None


def test_required_fields_are_known() -> None:
    required = [dotted(path) for path, field in all_fields().items() if field.required]
    assert "spec.task" in required
    assert "spec.training" not in required
    assert root().children()["spec"].required


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "data", "labels", 2), "spec.data.labels[2]"),
        (("metadata", "labels", "a.b/c"), 'metadata.labels."a.b/c"'),
        (("a", ""), 'a.""'),
        ((), ""),
    ],
    ids=str,
)
def test_a_path_is_written_with_dots(path: Path, text: str) -> None:
    assert dotted(path) == text
