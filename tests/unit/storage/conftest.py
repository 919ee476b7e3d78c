"""Stores and runs to test with, on disk and in memory alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.storage.harness import mortal_memory, new_run
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store, open_store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store("runs", tmp_path) if request.param == "file" else mortal_memory()


@pytest.fixture
def run(store: Store) -> RunStore:
    return new_run(store)


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return open_store("runs", tmp_path)
