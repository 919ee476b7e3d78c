"""What a cluster is given for a job, to the letter."""

from __future__ import annotations

import pytest

from tests.golden.manifests import FOLDER, rendered, text_of


@pytest.mark.parametrize("name", ["attempt", "prepare", "rayjob", "rayjob-fewer"])
def test_an_object_is_rendered_as_it_was_agreed(name: str) -> None:
    agreed = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text_of(rendered()[name]) == agreed, "agreed anew with python -m tests.golden.manifests"


def test_every_file_is_of_an_object_that_is_still_rendered() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(rendered())
