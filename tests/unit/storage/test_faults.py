"""Every fault of a store becomes one sentence and a remedy."""

from __future__ import annotations

import errno
import pickle

import pytest

from tunefleet.api.errors import StorageError
from tunefleet.storage.faults import FencedError, MissingError, translate


class GenericError(Exception):
    """As obstore raises it: the number stands in the text alone."""


class PermissionDeniedError(Exception):
    """As obstore raises it for a bucket."""


class UnauthenticatedError(Exception):
    """As obstore raises it for credentials."""


@pytest.mark.parametrize(
    "error, action, remedy",
    [
        (GenericError("cannot copy (os error 28)\n\nDebug source: x"), "write", "free some space"),
        (OSError(errno.EDQUOT, "quota"), "write", "free some space"),
        (OSError(errno.EROFS, "read-only"), "write", "mend the rights"),
        (GenericError("open: (os error 13)"), "read", "mend the rights"),
        (PermissionDeniedError("403"), "write", "mend the rights"),
        (OSError(errno.EPERM, "link"), "write", "mend the rights"),
        (GenericError("link: (os error 1)"), "create", "lacks hard links"),
        (OSError(errno.ENOTDIR, "x"), "write", "a file where a folder is needed"),
        (FileNotFoundError("gone"), "flush", "moved or deleted"),
        (UnauthenticatedError("401"), "list", "credentials"),
        (GenericError("connection reset"), "write", "run the same command again"),
        (ValueError("odd"), "read", "run the same command again"),
    ],
)
def test_a_fault_leads_to_its_remedy(error: Exception, action: str, remedy: str) -> None:
    found = translate(error, action, "weights in file:///runs")
    assert remedy in found.remedy
    assert found.message.startswith(f"cannot {action} weights in file:///runs: ")
    assert "Debug source" not in str(found)
    assert isinstance(found, MissingError) == isinstance(error, FileNotFoundError)


def test_an_error_that_is_one_of_ours_is_left_as_it_is() -> None:
    error = FencedError("taken over", remedy="nothing to do")
    assert translate(error, "write", "x") is error


def test_storage_errors_travel_between_processes() -> None:
    found = pickle.loads(pickle.dumps(FencedError("taken over", remedy="nothing")))
    assert isinstance(found, FencedError)
    assert isinstance(found, StorageError)
    assert str(found) == "taken over\n  → nothing"
