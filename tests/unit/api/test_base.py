"""The building blocks: durations, money, names, rules, and errors that travel."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tunefleet.api.base import (
    BrokenRules,
    DnsLabel,
    Document,
    Duration,
    Money,
    Name,
    Rule,
    Spec,
    duration_seconds,
)
from tunefleet.api.errors import DataError, Problem, RunError, SpecError, TunefleetError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("6h", 21_600), ("1d12h", 129_600), ("1d1h1m1s", 90_061)],
)
def test_a_duration_is_so_many_seconds(text: str, seconds: int) -> None:
    assert TypeAdapter(Duration).validate_python(text) == text
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0s", "1.5h", "12h1d", "5 m", "-1s", "99999d", "1w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_is_the_sum_of_its_parts(
    days: int, hours: int, minutes: int, seconds: int
) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert duration_seconds(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class Texts(Spec):
    money: Money = "0"
    dns: DnsLabel = "a"
    name: Name = "a"


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("money", ["25.00", "0", "0.000001"], ["25,00", "-1", "1e3", ".5", "1.0000001", ""]),
        ("dns", ["a", "a-1", "1a"], ["A", "-a", "a-", "a_b", "a.b", "", "a" * 64, "a\n"]),
        ("name", ["a", "two words", "é", " a"], ["", " ", "a\nb", "\x00", "a\x7f", "a" * 254]),
    ],
    ids=["money", "Kubernetes names", "names"],
)
def test_texts_are_checked(field: str, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert getattr(Texts.model_validate({field: text}), field) == text
    for text in bad:
        with pytest.raises(ValidationError):
            Texts.model_validate({field: text})


class Pair(Spec):
    low: int = 0
    high: int = 10

    def _broken_rules(self) -> Iterator[Rule]:
        if self.low > self.high:
            yield Rule("is above high", ("low",), "exchange them")
        if self.low == self.high == 7:
            yield Rule("seven twice")


def test_all_broken_rules_of_a_block_are_raised_together() -> None:
    assert Pair(low=1).high == 10
    with pytest.raises(ValidationError) as raised:
        Pair(low=11)
    error = raised.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, BrokenRules)
    assert [rule.message for rule in error.rules] == ["is above high"]


def test_a_record_comes_back_from_json_and_refuses_what_it_does_not_know() -> None:
    class Record(Document):
        some_name: int

    record = Record(some_name=3)
    assert record.to_json() == '{"someName":3}'
    assert Record.from_json(record.to_json()) == record
    with pytest.raises(ValidationError):
        Record.from_json('{"someName":3,"more":1}')


PROBLEM = Problem("is wrong", "spec.x", "do this", "job.yaml", 3)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (PROBLEM, "job.yaml:3: spec.x: is wrong\n    → do this"),
        (Problem("is wrong"), "is wrong"),
        (Problem("is wrong", line=3), "line 3: is wrong"),
        (Problem("is wrong", file="a.csv"), "a.csv: is wrong"),
    ],
    ids=["everything known", "a message alone", "a line", "a file"],
)
def test_a_problem_reads_as_place_field_message_remedy(problem: Problem, text: str) -> None:
    assert str(problem) == text


@pytest.mark.parametrize("kind", [SpecError, DataError, RunError])
def test_an_error_survives_the_way_through_another_process(kind: type[TunefleetError]) -> None:
    error = kind("two problems", remedy="mend them", problems=[PROBLEM])
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert str(other) == str(error)
        assert other.problems == (PROBLEM,)
    assert str(error).splitlines()[0] == "two problems"
    assert str(error).splitlines()[-1] == "  → mend them"


def test_only_a_failed_run_has_exit_code_1() -> None:
    assert (RunError("").exit_code, SpecError("").exit_code, DataError("").exit_code) == (1, 2, 2)
