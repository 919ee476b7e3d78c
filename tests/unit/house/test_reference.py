"""The reference pages say what the models and the command line are now."""

from __future__ import annotations

from docs.reference.generate import (
    FOLDER,
    commands_page,
    fields,
    job_page,
    meaning_of,
    profile_page,
)
from docs.reference.meanings import MEANINGS, PROFILE_MEANINGS
from tunefleet.api.profile import ComputeProfile


def test_every_field_has_a_sentence_and_every_sentence_a_field() -> None:
    assert {meaning_of(entry.path) for entry in fields()} == set(MEANINGS)


def test_every_field_of_a_profile_has_a_sentence() -> None:
    assert {entry.path for entry in fields(ComputeProfile)} == set(PROFILE_MEANINGS)


def test_the_page_of_the_profile_is_current() -> None:
    assert (FOLDER / "profile.md").read_text(encoding="utf-8") == profile_page(), "run `make docs`"


def test_the_page_of_the_job_is_current() -> None:
    assert (FOLDER / "job.md").read_text(encoding="utf-8") == job_page(), "run `make docs`"


def test_the_page_of_the_commands_is_current() -> None:
    assert (FOLDER / "commands.md").read_text(encoding="utf-8") == commands_page(), (
        "run `make docs`"
    )
