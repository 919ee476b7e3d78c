"""The cache: where it is, and what its keys depend on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunefleet.data import cache


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        pytest.param({"TUNEFLEET_CACHE": "/big/disk"}, "/big/disk", id="named"),
        pytest.param({"XDG_CACHE_HOME": "/xdg"}, "/xdg/tunefleet", id="below the desktop's cache"),
        pytest.param({"HOME": "/home/me"}, "/home/me/.cache/tunefleet", id="at home"),
    ],
)
def test_the_folder(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str
) -> None:
    for name in ("TUNEFLEET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_root() == Path(folder)


def test_values_have_one_digest_whatever_their_order() -> None:
    assert cache.digest_values({"a": 1, "b": [2]}) == cache.digest_values({"b": [2], "a": 1})
    assert cache.digest_values("a", "b") != cache.digest_values("ab")
    assert cache.digest_values(1) != cache.digest_values("1")


def test_a_file_is_read_again_only_when_its_size_or_time_changed(tmp_path: Path) -> None:
    file, kept = tmp_path / "weights", tmp_path / "cache"
    file.write_text("one")
    first = cache.digest_file(file, kept)
    status = file.stat()
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.digest_file(file, kept) == first, "same size, same time: taken for the same"
    assert cache.digest_file(file) != first
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.digest_file(file, kept) == cache.digest_file(file)


def test_code_is_digested_by_content_and_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    before = cache.digest_code([tmp_path])
    (tmp_path / "notes.txt").write_text("not code")
    assert cache.digest_code([tmp_path]) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert cache.digest_code([tmp_path]) != before


def test_versions_are_found_without_importing() -> None:
    assert dict(cache.versions("numpy", "no-such-package"))["no-such-package"] == ""
    assert dict(cache.versions("numpy"))["numpy"]


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "a" / "facts.json"
    cache.write_text(file, "one")
    cache.write_text(file, "two")
    assert file.read_text() == "two"
    assert [p.name for p in file.parent.iterdir()] == ["facts.json"]
