"""What the one who watches an attempt decides by itself."""

from __future__ import annotations

import pytest

from tunefleet.api.errors import RunError
from tunefleet.channel.schema import Event, EventKind
from tunefleet.train.driver import VainStarts

AWAY = "cannot read the claim: the store does not answer"


def heard(*kinds: EventKind) -> VainStarts:
    vain = VainStarts(allowed=2)
    for kind in kinds:
        vain.hear(Event(kind=kind, message=AWAY))
    return vain


def test_starts_that_nobody_can_write_down_come_to_an_end() -> None:
    with pytest.raises(RunError, match="3 starts in a row could not be claimed") as raised:
        heard("unclaimed", "unclaimed", "warning", "unclaimed")
    assert AWAY in raised.value.message
    assert "run the same command" in raised.value.remedy


@pytest.mark.parametrize("sign", ["resumed", "checkpoint", "evaluation"])
def test_a_sign_of_life_starts_the_count_anew(sign: EventKind) -> None:
    assert heard("unclaimed", "unclaimed", sign, "unclaimed").count == 1
