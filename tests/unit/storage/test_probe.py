"""A store that could not keep a run is refused before anything is spent."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest

from tests.unit.storage.harness import mortal_memory
from tunefleet.api.errors import StorageError
from tunefleet.storage.faults import AwayError, translate
from tunefleet.storage.probe import probe
from tunefleet.storage.store import Store


@pytest.mark.parametrize("says_so", [True, False], ids=["says so", "keeps silent"])
def test_a_store_that_deletes_nothing_is_refused_with_the_right_that_is_missing(
    says_so: bool,
) -> None:
    class Hoarding(Store):
        def delete(self, keys: Iterable[str]) -> None:
            if says_so:
                raise translate(PermissionError(errno.EACCES, "AccessDenied"), "delete", self.uri)

    with pytest.raises(StorageError, match="does not let objects be deleted") as refusal:
        probe(Hoarding(mortal_memory().uri))
    assert "s3:DeleteObject" in refusal.value.remedy


def test_a_store_that_goes_away_in_the_middle_of_a_probe_is_away() -> None:
    class Leaving(Store):
        def delete(self, keys: Iterable[str]) -> None:
            raise AwayError("cannot delete: HTTP error")

    with pytest.raises(AwayError):
        probe(Leaving(mortal_memory().uri))
