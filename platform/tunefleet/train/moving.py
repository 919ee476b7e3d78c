"""How long it may take to move what is large, before that counts as hanging.

Decides the slowest store that is worth waiting for, and how often the bytes of a checkpoint and
of the bundle go through it where nobody can say that it goes on: a store tells of an object only
when it has all of it, and the other workers wait for the leader. Imports ``plan``.
"""

from __future__ import annotations

from tunefleet.plan.document import Plan
from tunefleet.plan.memory import master_bytes

SLOWEST = 5_000_000
"""Bytes a second."""
_OTHERWISE = 600.0


def saving_seconds(plan: Plan) -> float:
    """A checkpoint is written, and read back before an older one goes."""
    return _seconds(2 * plan.checkpoints.bytes)


def choosing_seconds(plan: Plan) -> float:
    """The last checkpoint is saved; the newest and the best one are read back."""
    return saving_seconds(plan) + _seconds(2 * plan.checkpoints.bytes)


def restoring_seconds(plan: Plan) -> float:
    """A checkpoint is fetched, and hashed where it lies."""
    return _seconds(2 * plan.checkpoints.bytes)


def bundling_seconds(plan: Plan) -> float:
    """The bundle is made on this machine, sent to the store and read back."""
    return _seconds(3 * plan.parameters * master_bytes(plan.precision))


def collective_seconds(plan: Plan) -> float:
    """How long a worker may wait in a collective: for the longest of these, and a step."""
    return _OTHERWISE + max(choosing_seconds(plan), bundling_seconds(plan))


def _seconds(size: int) -> float:
    return size / SLOWEST
