"""What a bed takes of the machine, it gives back."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests.testbed import kuberay, life, parts
from tests.testbed.bed import Bed, BedError
from tests.testbed.bed_s3 import ensure_lasting
from tests.testbed.s3 import binary


def test_a_bed_that_is_down_has_left_nothing() -> None:
    if "KUBECONFIG" in os.environ:
        pytest.skip("with a cluster of your own no bed is started here")
    bed = Bed("short-lived")
    try:
        life.up(bed, "cp", say=print)
        kuberay.up(bed, say=print)
        if binary() is not None:
            ensure_lasting(bed)
        started = {process.pid for process in _processes(bed)}
        assert len(started) >= 5
        assert life.kind_of(bed) == "cp"
        life.up(bed, "cp", say=print)
        assert {process.pid for process in _processes(bed)} == started, "started a second time"
    finally:
        life.down(bed, say=print)
    assert not _processes(bed)
    assert not bed.namespace.exists()
    assert not bed.sockets.exists()
    assert not bed.folder.exists()
    assert str(bed.folder) not in Path("/proc/mounts").read_text()


def test_a_namespace_of_somebody_else_is_not_taken() -> None:
    if "KUBECONFIG" in os.environ:
        pytest.skip("with a cluster of your own no bed is started here")
    parts.require(parts.CONTROL_PLANE_FILES, install=False, say=print)
    mine, other = Bed("taken"), Path("/run/netns/taken")
    other.parent.mkdir(parents=True, exist_ok=True)
    other.touch()
    try:
        with pytest.raises(BedError, match="that this bed did not make: name another bed"):
            life.up(mine, "cp", say=print)
        life.down(mine, say=print)
        assert other.exists()
    finally:
        other.unlink()


def _processes(bed: Bed) -> list[psutil.Process]:
    """Every process that names something of the bed, whoever started it."""
    marks = (f"{bed.folder}/", str(bed.namespace), bed.name)
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(mark in part for part in process.info["cmdline"] or () for mark in marks)
    ]
