"""``tunefleet doctor``: what it finds, what it never tells, and its exit code."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from tests.testbed.s3 import S3Server
from tests.unit.house.tree import ROOT
from tunefleet.train import machine
from tunefleet.verbs.doctor import (
    CREDENTIALS,
    NEEDED,
    PYTHON,
    Check,
    DoctorResult,
    State,
    doctor,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of nobody: no credentials, no kubeconfig, a folder of its own."""
    for name in (*CREDENTIALS, "KUBECONFIG", "HF_HUB_OFFLINE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "cache"))
    return tmp_path


def found(result: DoctorResult, name: str) -> Check:
    (check,) = [check for check in result.checks if check.name.startswith(name)]
    return check


def test_a_machine_that_has_everything_is_ready(home: Path) -> None:
    result = doctor(base=home)
    assert result.exit_code == 0
    assert found(result, "Python").state is State.OK
    assert "torch" in found(result, "packages of tunefleet[train]").detail
    assert "second conditional create is refused" in found(result, "storage").detail
    assert found(result, "Hugging Face hub").detail == "not contacted"
    assert "none found" in found(result, "credentials").detail
    assert "no kubeconfig" in found(result, "cluster").detail
    # It changes nothing.
    assert list(home.iterdir()) == []


def test_needs_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {"": project["dependencies"]} | {
        extra: project["optional-dependencies"][extra] for extra in ("train", "serve")
    }
    bounds = {
        extra: dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?>=([\d.]+)$", "\n".join(lines), re.M))
        for extra, lines in declared.items()
    }
    assert all(len(bounds[extra]) == len(lines) for extra, lines in declared.items())
    assert bounds == NEEDED
    assert project["requires-python"] == ">=" + ".".join(map(str, PYTHON))


@pytest.mark.parametrize(
    ("installed", "state", "words"),
    [
        pytest.param({"torch": None}, State.MISSING, "not installed: torch", id="absent"),
        pytest.param({"torch": "2.8.1+cpu"}, State.MISSING, "torch 2.8.1+cpu < 2.9", id="too old"),
        pytest.param({"torch": "2.10.0"}, State.OK, "torch 2.10.0", id="2.10 is newer than 2.9"),
        pytest.param({"ray": "2.60.0rc1"}, State.OK, "ray 2.60.0rc1", id="a release candidate"),
    ],
)
def test_packages(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: dict[str, str | None],
    state: State,
    words: str,
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        chosen = installed.get(name, "") if name in installed else real(name)
        if chosen is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return chosen

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = doctor(base=home)
    check = found(result, "packages of tunefleet[train]")
    assert check.state is state
    assert words in check.detail
    assert result.exit_code == (2 if state is State.MISSING else 0)
    assert bool(check.remedy) == (state is not State.OK)


def test_a_missing_extra_that_training_does_not_need_is_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NEEDED, "serve", {"no-such-package-at-all": "1"})
    result = doctor(base=home)
    check = found(result, "packages of tunefleet[serve]")
    assert (check.state, check.remedy) == (State.WARN, "pip install 'tunefleet[serve]'")
    assert result.exit_code == 0


def test_names_credentials_and_never_tells_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text("aws_secret_access_key = hidden\n")
    result = doctor(base=home)
    assert found(result, "credentials").detail == "HF_TOKEN, ~/.aws/credentials"
    assert "secret" not in result.to_json().replace("aws_secret_access_key", "")
    assert "hidden" not in result.to_json()


def test_finds_a_kubeconfig(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = home / "cluster.yaml"
    config.write_text("kind: Config\n")
    monkeypatch.setenv("KUBECONFIG", f"{home / 'absent'}{os.pathsep}{config}")
    assert found(doctor(base=home), "cluster").detail == f"kubeconfig {config}"


def test_an_offline_hub_is_noted_and_not_contacted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE" in found(doctor(base=home, contact_hub=True), "Hugging").detail


def test_a_hub_that_cannot_be_reached_is_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    check = found(doctor(base=home, contact_hub=True), "Hugging")
    assert check.state is State.WARN
    assert "not reachable" in check.detail


def test_a_port_in_use_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("tunefleet.verbs.doctor.PORTS", {port: "a test"})
        assert found(doctor(base=home), f"port {port}").state is State.WARN
    assert found(doctor(base=home), f"port {port}").state is State.OK


def test_a_folder_that_cannot_be_written_is_a_warning_with_a_remedy(home: Path) -> None:
    (home / "file").write_text("")
    check = found(doctor(base=home / "file"), "storage")
    assert check.state is State.WARN
    assert "checkpoints.uri" in check.remedy


def test_a_store_is_tried_and_its_credentials_named_and_not_shown(
    home: Path, s3_environment: S3Server
) -> None:
    result = doctor(base=home, store=s3_environment.uri("doctor"))
    check = found(result, "storage")
    assert check.state is State.OK
    assert "MB/s" in check.detail
    assert "credentials: the environment (AWS_ACCESS_KEY_ID)" in check.detail
    for secret in (s3_environment.keys.secret, s3_environment.keys.access):
        assert secret not in result.to_json()


def test_a_store_that_cannot_be_used_makes_the_machine_unfit(
    home: Path, s3_environment: S3Server
) -> None:
    result = doctor(base=home, store=s3_environment.uri("runs", bucket="no-such-bucket"))
    check = found(result, "storage")
    assert result.exit_code == 2
    assert check.state is State.MISSING
    assert "NoSuchBucket" in check.detail
    assert "credentials: the environment" in check.detail
    assert "make it first" in check.remedy


def test_a_driver_that_torch_cannot_use_is_a_warning(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    sign = tmp_path / "nvidiactl"
    sign.touch()
    monkeypatch.setattr(machine, "_DRIVER_SIGNS", (str(sign),))
    check = found(doctor(base=home), "device")
    assert check.state is State.WARN
    assert "CUDA build of torch" in check.remedy


def test_is_shown_as_text_json_and_html() -> None:
    result = DoctorResult(
        (
            Check("Python", State.OK, "3.11.7"),
            Check("packages of <x>", State.MISSING, "not installed: ray", "pip install ray"),
        )
    )
    out = io.StringIO()
    result.render(Console(file=out, width=120))
    assert "1 of what is needed is missing" in out.getvalue()
    assert "not installed: ray → pip install ray" in out.getvalue()
    values = json.loads(result.to_json())
    assert values["ok"] is False
    assert values["checks"][0] == {
        "name": "Python",
        "state": "ok",
        "detail": "3.11.7",
        "remedy": "",
    }
    assert "packages of &lt;x&gt;" in result._repr_html_()


def test_loads_neither_torch_nor_ray(home: Path) -> None:
    if machine.nvidia_driver_present() or machine.apple_gpu_possible():
        pytest.skip("this machine's GPU has to be asked for")
    code = (
        "import sys; from tunefleet.verbs.doctor import doctor; doctor(base=sys.argv[1]);"
        "sys.exit(str({'torch', 'ray', 'transformers'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
