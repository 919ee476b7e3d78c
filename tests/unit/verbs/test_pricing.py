"""Where a price comes from, and what is said of a sheet that is none."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tunefleet.api.errors import SpecError
from tunefleet.verbs.pricing import VARIABLE, pricing

SHEET = """
asOf: "2026-11-01"
prices:
  - {machine: "*", perWorkerHour: "0.50"}
  - {machine: "NVIDIA L4", perMachineHour: "2.00"}
"""


def hourly(price: str | None, sheet: Path | None, device: str = "CPU") -> list[int | None]:
    return [rate.microdollars_per_hour for rate in pricing(price, sheet).rates(device)]


def test_an_option_stands_above_the_variable_and_nothing_is_unpriced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert hourly(None, None) == []
    named, other = tmp_path / "prices.yaml", tmp_path / "other.yaml"
    named.write_text(SHEET)
    other.write_text(SHEET.replace("0.50", "0.75"))
    monkeypatch.setenv(VARIABLE, str(named))
    assert hourly(None, None) == [500_000]
    assert hourly(None, None, "NVIDIA L4") == [2_000_000]
    assert hourly(None, other) == [750_000]
    assert hourly("0.10", None) == [100_000]
    other.write_text(SHEET.replace('"*"', f'"{platform.node()}"'))
    assert hourly(None, other, "NVIDIA L4") == [500_000], "this machine itself comes first"


def test_two_prices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="both given"):
        pricing("0.75", tmp_path / "prices.yaml")


@pytest.mark.parametrize(
    ("text", "line", "said", "remedy"),
    [
        pytest.param(SHEET.replace('"0.50"', "0.50"), 4, "string", '"0.75"', id="a bare number"),
        pytest.param(
            SHEET.replace("perWorkerHour", "perHour"), 4, "not permitted", "guide", id="no price"
        ),
        pytest.param(SHEET.replace("NVIDIA L4", "*"), 5, "same days", "until", id="two rows"),
        pytest.param(SHEET.replace("prices:", "prices: ["), None, "", "", id="no YAML"),
    ],
)
def test_a_sheet_that_is_wrong_is_told_by_line(
    tmp_path: Path, text: str, line: int | None, said: str, remedy: str
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"prices\.yaml") as caught:
        pricing(None, path)
    problems = caught.value.problems
    assert problems
    found = [p for p in problems if said in p.message and remedy in p.remedy]
    assert found, problems
    assert line is None or line in {problem.line for problem in found}


def test_a_sheet_that_is_not_there_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read the price sheet.*\n.*perWorkerHour"):
        pricing(None, tmp_path / "nowhere.yaml")
