"""A pod tells its attempt what happens, over plain HTTP, and reads what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.channel.server import OneObject, a_spec, one_object
from tunefleet.api.attempt import ATTEMPT_ENVIRONMENT, NAMESPACE_ENVIRONMENT, Stage
from tunefleet.api.errors import MachineError
from tunefleet.api.words import Command
from tunefleet.channel.attempt import Attempt, GoneError, SilentError

PATH = "/apis/tunefleet.dev/v1alpha1/namespaces/team/finetuneattempts/reviews-1/status"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OneObject]:
    with one_object(tmp_path) as found:
        yield found


def test_a_patch_goes_to_the_status_of_the_own_attempt_alone(server: OneObject) -> None:
    spec = server.attempt.patch({"run": "run-0001"})
    assert server.requests == [(PATH, "application/merge-patch+json", "Bearer first")]
    assert server.status == {"run": "run-0001"}
    assert (spec.stage, spec.number, spec.command) == (Stage.TRAIN, 1, Command.NONE)


def test_a_token_that_was_rotated_is_read_again(server: OneObject, tmp_path: Path) -> None:
    server.attempt.patch({})
    (tmp_path / "token").write_text("second")
    server.attempt.patch({})
    assert [request[2] for request in server.requests] == ["Bearer first", "Bearer second"]


def test_an_attempt_that_was_deleted_is_told_from_a_server_that_is_silent(
    server: OneObject,
) -> None:
    server.answers = [404]
    with pytest.raises(GoneError, match="team/reviews-1 is gone"):
        server.attempt.patch({})
    server.answers = [422]
    with pytest.raises(SilentError, match="422: refused with 422"):
        server.attempt.patch({})


def test_a_patch_that_must_be_taken_is_sent_again_and_says_why(server: OneObject) -> None:
    said: list[str] = []
    server.answers = [500, 503]
    server.attempt.patch_surely({"run": "run-0001"}, seconds=30, say=said.append)
    assert server.status == {"run": "run-0001"}
    assert [text.partition("(")[2][:3] for text in said] == ["500", "503"]


def test_a_patch_that_is_never_taken_ends_when_its_time_is_over(server: OneObject) -> None:
    server.answers = [500] * 100
    with pytest.raises(SilentError):
        server.attempt.patch_surely({}, seconds=0.2, say=lambda text: None)


def test_a_spec_of_another_version_is_no_reason_to_try_again(server: OneObject) -> None:
    server.spec = a_spec(stage="Dream")
    with pytest.raises(MachineError, match="the same version"):
        server.attempt.patch_surely({}, seconds=30, say=lambda text: None)
    assert len(server.requests) == 1


def test_a_pod_without_a_token_says_so(server: OneObject, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    with pytest.raises(SilentError, match="service account must be mounted"):
        server.attempt.patch({})


class TestHere:
    @pytest.fixture(autouse=True)
    def bare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (
            ATTEMPT_ENVIRONMENT,
            NAMESPACE_ENVIRONMENT,
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_SERVICE_PORT",
        ):
            monkeypatch.delenv(name, raising=False)

    def test_outside_a_cluster_there_is_none(self) -> None:
        assert Attempt.here() is None

    @pytest.mark.parametrize(
        ("host", "server"),
        [
            ("10.96.0.1", "https://10.96.0.1:6443"),
            pytest.param("fd00::1", "https://[fd00::1]:6443", id="an IPv6 address"),
        ],
    )
    def test_a_pod_is_told_by_its_environment(
        self, monkeypatch: pytest.MonkeyPatch, host: str, server: str
    ) -> None:
        monkeypatch.setenv(ATTEMPT_ENVIRONMENT, "reviews-1")
        monkeypatch.setenv(NAMESPACE_ENVIRONMENT, "team")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
        assert Attempt.here() == Attempt(server, "team", "reviews-1")

    def test_an_attempt_without_a_cluster_is_a_mistake(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ATTEMPT_ENVIRONMENT, "reviews-1")
        with pytest.raises(MachineError, match="no pod of a cluster"):
            Attempt.here()
