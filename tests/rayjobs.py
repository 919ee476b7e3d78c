"""What the real KubeRay operator writes into a RayJob: the statuses of whole lives, as recorded.

Decides how they are said again by those who play KubeRay. ``python -m tests.cluster.recording``
writes the file beside this one anew; a test leads the operator through the same lives and
compares. Those fields are in it that the controller reads, with words for names and times.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

Life = Literal["ends well", "fails", "loses its head", "is suspended and goes on", "is refused"]
Status = dict[str, str]

PATH = Path(__file__).with_suffix(".json")
FIELDS = ("jobStatus", "jobDeploymentStatus", "reason", "message", "endTime", "rayClusterName")
MOMENT, NAME, NAMESPACE = "<moment>", "<name>", "<namespace>"


@cache
def recorded() -> dict[Life, list[Status]]:
    """Every life, status by status."""
    found: dict[Life, list[Status]] = json.loads(PATH.read_text(encoding="utf-8"))["lives"]
    return found


def running() -> dict[str, str | None]:
    """That of a RayJob whose driver runs, as a patch."""
    return _patch(next(s for s in recorded()["ends well"] if s.get("jobStatus") == "RUNNING"), "")


def said(life: Life, stage: str, now: str) -> dict[str, str | None]:
    """The last that a life says at that stage, as a patch. ``now`` is when it ends, if it does."""
    found = (s for s in reversed(recorded()[life]) if s.get("jobDeploymentStatus") == stage)
    return _patch(next(found), now)


def _patch(status: Status, now: str) -> dict[str, str | None]:
    """All that is read, what is not said as None; no name, for nobody plays RayClusters."""
    kept = {name: status.get(name) for name in FIELDS if name != "rayClusterName"}
    return {name: now if value == MOMENT else value for name, value in kept.items()}
