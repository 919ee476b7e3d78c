"""What is to be done about a job, from what was observed: pure, and the same every time.

Decides one step of a job's life at a time: accept, prepare, stop, train, finish, clear; each step
has a file of its own. A step is found again from what there is, so that it does not matter which
event was lost or where the controller was killed. The clock is handed in.
"""

from __future__ import annotations

from datetime import datetime

from tunefleet.api.attempt import Stage
from tunefleet.api.status import FINAL
from tunefleet.controller.jobs import clearing, preparing, stopping, training
from tunefleet.controller.jobs.decision import Deciding, Decision
from tunefleet.controller.jobs.observe import Observed
from tunefleet.render.settings import Runtime


def decide(observed: Observed, runtime: Runtime, now: datetime) -> Decision:
    """The next step of a job's life."""
    here = Deciding(observed, runtime, now)
    before, newest = observed.seen.status, observed.newest
    if observed.seen.going:
        return Decision(before)
    if before.phase in FINAL and (newest is not None or observed.spec is None):
        return clearing.at_the_end(here)
    if observed.spec is not None and observed.spec.job is None and newest is None:
        return here.refuse()
    stop = stopping.wanted(here)
    if stop is not None:
        return stop
    if newest is None:
        return preparing.begin(here, here.story)
    if newest.spec.stage is Stage.PREPARE:
        story = here.story
        return preparing.prepare(here, story, newest) or training.first(here, story)
    return training.train(here, newest)
