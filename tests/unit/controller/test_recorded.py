"""What is recorded of KubeRay is what the controller reads, and is taken for what it means."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from tests import rayjobs
from tunefleet.controller.seen import RayJobSeen

LAST: dict[rayjobs.Life, tuple[str, bool]] = {
    "ends well": ("Complete", True),
    "fails": ("Failed", True),
    "loses its head": ("Failed", True),
    "is suspended and goes on": ("Running", False),
    "is refused": ("ValidationFailed", True),
}


def seen(status: object) -> RayJobSeen:
    metadata = {"name": "r", "uid": "r", "resourceVersion": "1"}
    return RayJobSeen.model_validate_json(json.dumps({"metadata": metadata, "status": status}))


def test_every_field_that_is_read_is_recorded() -> None:
    read = {field.alias for field in type(seen({}).status).model_fields.values()}
    # What KubeRay says of a RayCluster depends on the order in which pods become ready.
    assert read - {"rayClusterStatus"} == set(rayjobs.FIELDS)


def test_every_life_is_recorded() -> None:
    assert set(rayjobs.recorded()) == set(get_args(rayjobs.Life)) == set(LAST)


@pytest.mark.parametrize("life", LAST)
def test_a_life_begins_with_nothing_and_comes_to_its_end(life: rayjobs.Life) -> None:
    stage, ended = LAST[life]
    first, *_, last = rayjobs.recorded()[life]
    assert first == {}
    assert last["jobDeploymentStatus"] == stage
    assert [seen(status).ended for status in rayjobs.recorded()[life]][-1] == ended
    assert ("endTime" in last) == (stage in {"Complete", "Failed"})


def test_a_played_status_takes_back_what_is_not_said_any_more() -> None:
    said = rayjobs.said("is suspended and goes on", "Suspended", "")
    assert (said["jobStatus"], said["message"]) == (None, None)
    assert "rayClusterName" not in said
