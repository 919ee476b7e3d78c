"""What this machine has: devices, cores and memory, as ``MachineFacts``.

Decides which device a run uses when none is named. Asks torch only where a GPU driver (or an
Apple GPU) can be seen without it, so that planning on a plain CPU loads no torch. Imports
``api`` and ``plan``; torch inside the functions that need it.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
from importlib.util import find_spec
from pathlib import Path

from tunefleet.api.errors import MachineError
from tunefleet.api.words import DeviceType
from tunefleet.plan.facts import DeviceFacts, MachineFacts

_DRIVER_SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
_DEVICES = ("auto", *DeviceType)


def machine_facts(device: str = "auto") -> MachineFacts:
    """Find out what this machine has; raises ``MachineError`` when ``device`` is not there."""
    if device not in _DEVICES:
        raise MachineError(f"unknown device {device!r}", remedy=f"use one of {', '.join(_DEVICES)}")
    cpus, memory = cpu_count(), memory_bytes()
    if device in {"auto", DeviceType.CUDA}:
        found = _cuda() if nvidia_driver_present() else None
        if found is None and device == DeviceType.CUDA:
            raise MachineError("no CUDA device was found", remedy=_cuda_remedy())
        if found is not None:
            return MachineFacts(device=found, cpus=cpus, memory=memory)
    if device in {"auto", DeviceType.MPS}:
        found = _mps(memory) if apple_gpu_possible() else None
        if found is None and device == DeviceType.MPS:
            raise MachineError(
                "no Apple GPU (MPS) was found",
                remedy="use --device cpu, or a Mac with Apple silicon and an arm64 torch",
            )
        if found is not None:
            return MachineFacts(device=found, cpus=cpus, memory=memory)
    name = cpu_name()
    host = DeviceFacts(type=DeviceType.CPU, name=name, count=1, memory=memory, bf16=_cpu_has_bf16())
    return MachineFacts(device=host, cpus=cpus, memory=memory)


def nvidia_driver_present() -> bool:
    """Whether an NVIDIA driver can be seen, found out without torch."""
    return any(Path(sign).exists() for sign in _DRIVER_SIGNS) or (
        platform.system() == "Windows" and ctypes.util.find_library("nvcuda") is not None
    )


def apple_gpu_possible() -> bool:
    """Whether this is a Mac with Apple silicon."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def cpu_count() -> int:
    """Cores this process may use: affinity, bounded by the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, int(quota)) if quota is not None else cores)


def memory_bytes() -> int:
    """Physical memory, bounded by the container's limit."""
    limits = [_physical_memory()]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _number(_CGROUP / name)
        if limit is not None and limit < _UNLIMITED:
            limits.append(limit)
    return min(limits)


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"


def _cuda() -> DeviceFacts | None:
    if find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    count = torch.cuda.device_count()
    devices = [torch.cuda.get_device_properties(index) for index in range(count)]
    smallest = min(devices, key=lambda item: int(item.total_memory))
    return DeviceFacts(
        type=DeviceType.CUDA,
        name=str(smallest.name),
        count=count,
        memory=int(smallest.total_memory),
        bf16=all(int(item.major) >= 8 for item in devices),
    )


def _mps(memory: int) -> DeviceFacts | None:
    if find_spec("torch") is None:
        return None
    import torch

    if not torch.backends.mps.is_available():
        return None
    return DeviceFacts(
        type=DeviceType.MPS, name=f"{cpu_name()} GPU", count=1, memory=memory, bf16=False
    )


def _cuda_remedy() -> str:
    if not nvidia_driver_present():
        return "no NVIDIA driver is loaded; use --device cpu, or install the driver"
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'tunefleet[train]'"
    return "torch sees no CUDA device; install a CUDA build of torch and check nvidia-smi"


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware (elsewhere it is slower than fp32)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(f" {flag}" in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def _cpu_quota() -> float | None:
    try:
        limit, period = (_CGROUP / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    quota, span = (_number(_CGROUP / "cpu" / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    return quota / span if quota and span and quota > 0 else None


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        import psutil

        return int(psutil.virtual_memory().total)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
