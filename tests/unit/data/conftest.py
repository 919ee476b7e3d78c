"""What the data tests share: writing files, and reading splits as ``prepare`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tunefleet.api.errors import DataError, Problem
from tunefleet.api.job import DataSpec
from tunefleet.api.tasks import declaration_of
from tunefleet.data.splits import Reading, Splits, read_splits

Read = Callable[..., Splits]
Refused = Callable[..., list[Problem]]


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files; text as UTF-8 with its line ends as they are."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """``read(files, data, task=…, options=…, seed=…)``: the splits of a job over files."""

    def call(
        files: Mapping[str, str | bytes],
        data: Mapping[str, object],
        *,
        task: str = "text-classification",
        options: Mapping[str, object] | None = None,
        seed: int = 17,
    ) -> Splits:
        write(tmp_path, files)
        declaration = declaration_of(task)
        chosen = declaration.options.model_validate(options or {})
        reading = Reading(
            columns=declaration.columns(chosen),
            labelled=declaration.labelled(chosen),
            separator=str(getattr(chosen, "label_separator", "|")),
            seed=seed,
        )
        return read_splits(DataSpec.model_validate(data), tmp_path, reading)

    return call


@pytest.fixture
def refused(read: Read) -> Refused:
    """Like ``read`` for data that must be refused: its problems."""

    def call(
        files: Mapping[str, str | bytes],
        data: Mapping[str, object],
        **more: object,
    ) -> list[Problem]:
        with pytest.raises(DataError) as raised:
            read(files, data, **more)
        assert raised.value.exit_code == 2
        return list(raised.value.problems)

    return call
