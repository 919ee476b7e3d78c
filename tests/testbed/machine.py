"""What a bed takes of the machine, and that the machine gets it back.

A kubelet believes that the machine is its own: it sets kernel settings and empties cgroups. So
decides that a machine has one bed with a node at a time, under a cgroup of the bed's name, that
kernel settings are noted before and written back after, and which mounts are a bed's. Imports
the bed's own modules.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from tests.testbed.bed import Bed, BedError
from tests.testbed.processes import Processes, output

_CGROUPS = Path("/sys/fs/cgroup")
_OWNER = Path("/run/tunefleet-bed-node")  # whoever's cache it is in, a machine has one node
_KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def cgroup(bed: Bed) -> str:
    """The cgroup under which the bed's pods are."""
    return f"tunefleet-{bed.name}"


def take(bed: Bed) -> None:
    """Make the machine this bed's; refused while another bed has it."""
    owner = Path(_OWNER.read_text()) if _OWNER.exists() else None
    if owner not in (None, bed.run) and Processes(owner).pid("kubelet") is not None:
        other = owner.parent.name
        raise BedError(
            f"bed {other} has this machine's node; take it down first "
            f"(python -m tests.testbed --name {other} down)"
        )
    _OWNER.write_text(str(bed.run))
    saved = bed.run / "kernel-settings.json"
    if not saved.exists():
        settings = {name: Path("/proc/sys", name).read_text() for name in _KERNEL_SETTINGS}
        saved.write_text(json.dumps(settings))
    _make_cgroups(bed)


def give_back(bed: Bed) -> None:
    """Kernel settings as they were, no mount and no cgroup of the bed left."""
    unmount(bed.run, bed.sockets, bed.images)
    saved = bed.run / "kernel-settings.json"
    if saved.exists():
        for name, value in json.loads(saved.read_text()).items():
            # Not every setting may be written in every container; then kubelet could not either.
            with contextlib.suppress(OSError):
                Path("/proc/sys", name).write_text(value)
        saved.unlink()
    for top in _cgroups(bed):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    if _OWNER.exists() and _OWNER.read_text() == str(bed.run):
        _OWNER.unlink()


def unmount(*places: Path) -> None:
    """Unmount whatever is mounted below these folders, the innermost first."""
    mounts = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, key=lambda path: len(path.parts), reverse=True):
        if any(mount.is_relative_to(place) for place in places):
            output(["umount", "--lazy", mount])


def _cgroups(bed: Bed) -> list[Path]:
    """The bed's cgroup in every hierarchy there is: one of version 2, several of version 1."""
    name = cgroup(bed)
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / name]
    return [top / name for top in _CGROUPS.iterdir() if top.is_dir() and not top.is_symlink()]


def _make_cgroups(bed: Bed) -> None:
    for group in _cgroups(bed):
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # In version 1 a new cgroup has no processors until it is told.
            own = group / setting
            if own.exists() and not (_CGROUPS / "cgroup.controllers").exists():
                own.write_text((group.parent / setting).read_text())
