"""The real operator still writes what the played one says: recorded lives, lived once more."""

from __future__ import annotations

import pytest

from tests import rayjobs
from tests.cluster.recording import LIVES, lived
from tests.testbed.clusters import Cluster

REMEDY = "look at what changed, and record it: python -m tests.cluster.recording"


@pytest.mark.parametrize("life", LIVES)
def test_a_rayjob_that(unplayed: Cluster, namespace: str, life: rayjobs.Life) -> None:
    assert lived(unplayed, namespace, life) == rayjobs.recorded()[life], REMEDY
