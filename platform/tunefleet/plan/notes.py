"""What is gathered while a plan is made: problems, decisions and warnings.

Decides nothing: choices are made in their own modules and written down here, so that all
problems are reported at once and every value a user left open is explained. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tunefleet.api.errors import Problem, SpecError
from tunefleet.plan.document import Decision


@dataclass(slots=True)
class Notes:
    """A collector for one plan."""

    problems: list[Problem] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, where: str, message: str, remedy: str) -> None:
        """The job cannot be run like this."""
        self.problems.append(Problem(message=message, where=where, remedy=remedy))

    def decide(self, where: str, value: object, reason: str) -> None:
        """A value that was left open."""
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        self.decisions.append(Decision(field=where, value=shown, reason=reason))

    def warn(self, text: str) -> None:
        """The job can be run, but somebody should know."""
        self.warnings.append(text)

    def raise_problems(self) -> None:
        """Raise ``SpecError`` with everything that was refused so far."""
        if self.problems:
            raise SpecError("this job cannot be run as it is written", problems=self.problems)


def some(count: int, noun: str) -> str:
    """``1 worker``, ``2 workers``; ``1 micro-batch``, ``2 micro-batches``."""
    plural = f"{noun}es" if noun.endswith("batch") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
