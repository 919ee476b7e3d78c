"""Everything that is wrong, gathered before anything is raised.

Decides how many like problems are shown: a few of each kind and file with their places,
and then a count, so that a million bad rows make a short message. Imports ``api`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tunefleet.api.errors import DataError, Problem

SHOWN = 3


@dataclass(slots=True)
class Problems:
    """Problems in the order in which they were found, like ones together."""

    _shown: dict[tuple[str, str], list[Problem]] = field(default_factory=dict)
    _more: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        message: str,
        *,
        remedy: str = "",
        where: str = "",
        file: str = "",
        line: int | None = None,
    ) -> None:
        """Note a problem. Those of one ``kind`` and file are shown together, up to a few."""
        shown = self._shown.setdefault((kind, file), [])
        if len(shown) < SHOWN:
            shown.append(Problem(message, where=where, remedy=remedy, file=file, line=line))
        else:
            self._more[kind, file] = self._more.get((kind, file), 0) + 1

    def __bool__(self) -> bool:
        return bool(self._shown)

    def listed(self) -> list[Problem]:
        """What is shown; the remedy of like problems stands once, with the last of them."""
        out: list[Problem] = []
        for key, shown in self._shown.items():
            more = self._more.get(key, 0)
            for position, problem in enumerate(shown):
                last = position == len(shown) - 1
                same = not last and shown[position + 1].remedy == problem.remedy
                tail = f" (and {more:,} more like this)" if last and more else ""
                out.append(
                    replace(
                        problem,
                        message=problem.message + tail,
                        remedy="" if same else problem.remedy,
                    )
                )
        return out

    def raise_if_any(self, message: str = "the data cannot be used as it is") -> None:
        """Raise one ``DataError`` with all problems, or return."""
        if self._shown:
            raise DataError(f"{message}:", problems=self.listed())
