"""What an hour costs here: ``--price-per-hour``, a price sheet's file, or nobody knows.

Decides where a price comes from (the option, then ``--price-sheet``, then the file that
``TUNEFLEET_PRICES`` names) and words what is wrong with a sheet. Imports ``api`` and ``cost``.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.fields import dotted
from tunefleet.api.rates import Rate

if TYPE_CHECKING:
    from pydantic import ValidationError

    from tunefleet.cost.prices import PriceSheet
    from tunefleet.verbs.locate import Located

VARIABLE = "TUNEFLEET_PRICES"
_EXAMPLE = 'asOf: "2026-11-30", prices: [{machine: "*", perWorkerHour: "0.75"}]'


@dataclass(frozen=True, slots=True)
class Pricing:
    """Where the price comes from; without either, time is unpriced."""

    per_worker: int | None = None
    sheet: PriceSheet | None = None

    def rates(self, device: str, start: datetime | None = None) -> list[Rate]:
        """The rates of an attempt that starts (now) on a device of this name, on this machine."""
        if self.per_worker is not None:
            return [
                Rate(since_ns=0, microdollars_per_hour=self.per_worker, basis="--price-per-hour")
            ]
        if self.sheet is None:
            return []
        from tunefleet.cost.prices import rates_of

        return rates_of(self.sheet, [platform.node(), device], start or datetime.now(UTC))


def pricing(price: str | None, sheet: str | Path | None) -> Pricing:
    """Read what the options say; raises ``SpecError`` for what is no price or no sheet."""
    from tunefleet.cost.money import parse_price

    if price is not None and sheet is not None:
        raise SpecError(
            "--price-per-hour and --price-sheet are both given",
            remedy="keep one of them: either says what an hour costs",
        )
    if price is not None:
        return Pricing(per_worker=parse_price(price))
    named = sheet if sheet is not None else os.environ.get(VARIABLE)
    return Pricing(sheet=read_sheet(Path(named)) if named else None)


def read_sheet(path: Path) -> PriceSheet:
    """A price sheet's file; raises ``SpecError`` with everything that is wrong with it."""
    from pydantic import ValidationError

    from tunefleet.cost.prices import PriceSheet
    from tunefleet.verbs.locate import read_document

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            f"cannot read the price sheet {path}: {reason}",
            remedy=f"name a file with --price-sheet or {VARIABLE}: {_EXAMPLE}",
        ) from None
    document = read_document(text, str(path))
    if document.problems:
        raise _error(path, list(document.problems))
    try:
        return PriceSheet.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _error(path, _problems(error, document)) from None


def _problems(error: ValidationError, document: Located) -> list[Problem]:
    from tunefleet.api.base import BrokenRules

    found = []
    for details in error.errors(include_url=False):
        path = tuple(details["loc"])
        raised = details.get("ctx", {}).get("error")
        rules = raised.rules if isinstance(raised, BrokenRules) else ()
        for rule in rules:
            place = document.place((*path, *rule.at))
            found.append(
                Problem(
                    rule.message, dotted((*path, *rule.at)), rule.remedy, place.file, place.line
                )
            )
        if not rules:
            place = document.place(path)
            remedy = (
                'put quotes round it: "0.75"'
                if details["type"] == "string_type"
                else "the guide's section on costs shows a sheet"
            )
            found.append(Problem(details["msg"], dotted(path), remedy, place.file, place.line))
    return found


def _error(path: Path, problems: list[Problem]) -> SpecError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return SpecError(f"{count} in the price sheet {path}", problems=problems)
