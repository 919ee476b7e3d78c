"""Two tiny bundles, made once: one that classifies and one that writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_bundles import tiny_bundle


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed text-classification bundle with a card."""
    folder = tiny_bundle(tmp_path_factory.mktemp("classifier"))
    # The card is not under the seal: it may be written later.
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed causal-lm bundle."""
    return tiny_bundle(tmp_path_factory.mktemp("writer"), task_name="causal-lm")
