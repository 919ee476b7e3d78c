"""What a machine has, found out without torch where that can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunefleet.api.errors import MachineError
from tunefleet.api.words import DeviceType
from tunefleet.train import machine
from tunefleet.train.machine import machine_facts


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group's folder of the test's own."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


@pytest.fixture
def _no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_DRIVER_SIGNS", ())


def test_a_cpu_is_what_every_machine_has() -> None:
    facts = machine_facts("cpu")
    assert facts.device.type is DeviceType.CPU
    assert facts.device.memory == facts.memory > 0
    assert facts.cpus >= 1
    assert facts.device.name


@pytest.mark.usefixtures("_no_driver")
def test_asks_torch_nothing_where_no_driver_is() -> None:
    if machine.apple_gpu_possible():
        pytest.skip("an Apple GPU has to be asked for")
    code = (
        "import sys; from tunefleet.train import machine; machine._DRIVER_SIGNS = ();"
        "assert machine.machine_facts().device.type == 'cpu'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("_no_driver")
def test_a_gpu_that_is_asked_for_and_absent_is_refused() -> None:
    with pytest.raises(MachineError, match=r"no CUDA device was found\n.*no NVIDIA driver"):
        machine_facts("cuda")


def test_a_driver_without_a_device_falls_back_and_says_so_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    sign = tmp_path / "version"
    sign.touch()
    monkeypatch.setattr(machine, "_DRIVER_SIGNS", (str(sign),))
    with pytest.raises(MachineError, match="install a CUDA build of torch"):
        machine_facts("cuda")
    if not machine.apple_gpu_possible():
        assert machine_facts("auto").device.type is DeviceType.CPU


def test_an_unknown_device_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(MachineError, match=r"'tpu'\n.*auto, cpu, cuda, mps"):
        machine_facts("tpu")


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("nonsense", None)],
    ids=["one and a half", "half a core", "no limit", "unreadable"],
)
def test_cores_are_bounded_by_the_containers_quota(
    group: Path, text: str, cores: int | None
) -> None:
    unbounded = machine.cpu_count()
    (group / "cpu.max").write_text(text)
    assert machine.cpu_count() == (cores or unbounded)


@pytest.mark.parametrize(
    ("name", "text", "bounded"),
    [
        pytest.param("memory.max", "1048576", True, id="version 2"),
        pytest.param("memory.max", "max", False, id="version 2 without a limit"),
        pytest.param("memory/memory.limit_in_bytes", "1048576", True, id="version 1"),
        pytest.param(
            "memory/memory.limit_in_bytes", "9223372036854771712", False, id="version 1 unlimited"
        ),
    ],
)
def test_memory_is_bounded_by_the_containers_limit(
    group: Path, name: str, text: str, bounded: bool
) -> None:
    unbounded = machine.memory_bytes()
    path = group / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert machine.memory_bytes() == (1048576 if bounded else unbounded)
