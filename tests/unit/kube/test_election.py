"""One leads, a successor starts in time, and who has lost the Lease does not write."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.kube.fake_server import THINGS, Answer, DirectClient, FakeServer, status
from tests.unit.kube.virtual_time import run
from tunefleet.kube.election import Election, Terms, identity
from tunefleet.kube.errors import Fenced

TERMS = Terms()


class Candidate:
    """A candidate that runs, and a clock of its own that can be put ahead."""

    def __init__(self, server: FakeServer, name: str, *, writes_per_second: float = 1e6) -> None:
        self.server = server
        self.lost_at: float | None = None
        self.elected_at: float | None = None
        self.ahead = 0.0
        self.client = DirectClient(server, writes_per_second=writes_per_second)
        self.election = Election(
            self.client,
            "n",
            "lease",
            identity=name,
            lost=self._lost,
            clock=lambda: now() + self.ahead,
        )
        self.client.fence(self.election.holds)
        self.task = asyncio.create_task(self.election.run())
        self._noting = asyncio.create_task(self._note())

    def _lost(self) -> None:
        self.lost_at = now()

    async def _note(self) -> None:
        await self.election.elected.wait()
        self.elected_at = now()

    def kill(self) -> None:
        """As ``kill -9``: nothing is released."""
        self.task.cancel()
        self._noting.cancel()


def now() -> float:
    return asyncio.get_running_loop().time()


def among(*names: str, test: Callable[..., Awaitable[None]]) -> None:
    """With candidates that began one second after the other; the first leads from 0 on."""

    async def main() -> None:
        server = FakeServer()
        made = []
        for name in names:
            made.append(Candidate(server, name))
            await asyncio.sleep(1.0)
        await test(*made)
        for candidate in made:
            candidate.kill()

    run(main())


def holder(server: FakeServer) -> str:
    return str(server.objects["leases"]["n", "lease"]["spec"]["holderIdentity"])


def test_the_first_leads_and_keeps_leading() -> None:
    async def test(one: Candidate, two: Candidate) -> None:
        await asyncio.sleep(3600.0)
        assert one.elected_at == 0
        assert one.election.holds()
        assert two.elected_at is None
        assert holder(one.server) == "one"
        assert one.lost_at is two.lost_at is None

    among("one", "two", test=test)


def test_a_killed_leader_has_a_successor_once_its_lease_ran_out() -> None:
    async def test(one: Candidate, two: Candidate) -> None:
        await asyncio.sleep(100.0)
        killed = now()
        one.kill()
        await asyncio.sleep(60.0)
        assert two.elected_at is not None
        assert TERMS.lease - TERMS.look <= two.elected_at - killed <= TERMS.lease + 2 * TERMS.look
        spec = two.server.objects["leases"]["n", "lease"]["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)

    among("one", "two", test=test)


def test_a_leader_that_slept_too_long_does_not_take_its_lease_back() -> None:
    async def test(one: Candidate) -> None:
        await asyncio.sleep(100.0)
        one.ahead += TERMS.renew + 1.0
        await asyncio.sleep(TERMS.look + 0.1)
        assert one.lost_at is not None
        assert not one.election.holds()

    among("one", test=test)


def test_a_leader_that_leaves_makes_room_at_once() -> None:
    async def test(one: Candidate, two: Candidate) -> None:
        left = now()
        one.kill()
        await one.election.release()
        assert not one.election.holds()
        await asyncio.sleep(60.0)
        assert two.elected_at is not None
        assert two.elected_at - left <= TERMS.look

    among("one", "two", test=test)


def test_releasing_what_is_not_held_changes_nothing() -> None:
    async def test(one: Candidate, two: Candidate) -> None:
        await two.election.release()
        assert holder(one.server) == "one"

    among("one", "two", test=test)


def test_a_release_that_is_refused_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def test(one: Candidate) -> None:
        one.kill()
        one.server.answers.append(Answer(500, status(500, "Broken")))
        await one.election.release()
        assert not one.election.holds()

    among("one", test=test)
    assert "has to run out" in caplog.text


@pytest.mark.parametrize(
    "trouble", ["errors", "slow answers", "no answers"], ids=lambda trouble: trouble
)
def test_a_leader_that_cannot_renew_ends_before_another_can_start(trouble: str) -> None:
    async def test(one: Candidate) -> None:
        await asyncio.sleep(99.0)
        renewed = [r.body for r in one.server.requests if r.method == "PATCH"]
        if trouble == "errors":
            one.server.answers.extend([Answer(500, status(500, "Broken"))] * 1000)
        else:
            one.server.seconds = 8.0 if trouble == "slow answers" else 1e6
        began = now()
        await asyncio.sleep(60.0)
        assert renewed
        assert one.lost_at is not None
        # The last renewal was at most one look before.
        assert TERMS.renew - TERMS.look <= one.lost_at - began <= TERMS.renew
        assert not one.election.holds()

    among("one", test=test)


def test_a_slow_renewal_counts_from_when_it_was_asked_for() -> None:
    async def test(one: Candidate) -> None:
        one.server.seconds = 3.0
        await asyncio.sleep(8.0)
        # Asked for at 2, granted at 8; from then on nobody answers.
        one.server.seconds = 1e6
        await asyncio.sleep(60.0)
        assert one.lost_at == 2.0 + TERMS.renew

    among("one", test=test)


def test_a_short_trouble_does_not_end_leadership() -> None:
    async def test(one: Candidate) -> None:
        one.server.answers.extend([Answer(500, status(500, "Broken"))] * 3)
        await asyncio.sleep(60.0)
        assert one.election.holds()
        assert one.lost_at is None

    among("one", test=test)


def test_a_leader_whose_lease_was_taken_ends_with_its_next_look() -> None:
    async def test(one: Candidate) -> None:
        taken = now()
        lease = one.server.objects["leases"]["n", "lease"]
        one.server.put("lease", "n", "leases", spec={**lease["spec"], "holderIdentity": "thief"})
        await asyncio.sleep(30.0)
        assert one.lost_at is not None
        assert one.lost_at - taken <= TERMS.look
        assert holder(one.server) == "thief"

    among("one", test=test)


def test_a_process_that_was_frozen_writes_nothing_when_it_wakes() -> None:
    async def test(one: Candidate) -> None:
        one.server.put("a")
        await one.client.patch(THINGS, "n", "a", {"x": 1})
        # No time to renew in between: so does the clock jump for a process that was stopped.
        one.ahead = TERMS.renew
        with pytest.raises(Fenced):
            await one.client.patch(THINGS, "n", "a", {"x": 2})
        assert one.server.objects["things"]["n", "a"]["x"] == 1

    among("one", test=test)


def test_a_lease_is_renewed_past_a_burst_of_writes() -> None:
    async def main() -> None:
        server = FakeServer()
        server.put("a")
        one = Candidate(server, "one", writes_per_second=0.1)
        await asyncio.sleep(1.0)
        writes = [
            asyncio.create_task(one.client.patch(THINGS, "n", "a", {"x": i})) for i in range(20)
        ]
        await asyncio.sleep(100.0)
        assert one.election.holds()
        assert not all(write.done() for write in writes)
        await asyncio.gather(*writes)
        one.kill()

    run(main())


def test_of_many_that_saw_it_free_one_gets_it() -> None:
    async def main() -> None:
        server = FakeServer()
        server.seconds = 0.1
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        server.put("lease", "n", "leases", spec=spec)
        made = [Candidate(server, str(number)) for number in range(5)]
        await asyncio.sleep(30.0)
        assert [one.elected_at is None for one in made].count(False) == 1
        assert all(one.lost_at is None for one in made)
        for one in made:
            one.kill()

    run(main())


def test_a_holder_that_promised_to_renew_less_often_is_waited_for() -> None:
    async def main() -> float | None:
        server = FakeServer()
        spec = {"holderIdentity": "patient", "leaseDurationSeconds": 60}
        server.put("lease", "n", "leases", spec=spec)
        one = Candidate(server, "one")
        await asyncio.sleep(100.0)
        one.kill()
        return one.elected_at

    assert run(main()) == 62.0


def test_a_lease_says_who_holds_it_since_when_and_for_how_long() -> None:
    async def test(one: Candidate) -> None:
        await asyncio.sleep(10.0)
        spec = dict(one.server.objects["leases"]["n", "lease"]["spec"])
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
        assert re.fullmatch(stamp, spec.pop("acquireTime"))
        assert re.fullmatch(stamp, spec.pop("renewTime"))
        assert spec == {"holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0}

    among("one", test=test)


@pytest.mark.parametrize("terms", [(1.0, 1.0, 0.5), (15.0, 10.0, 10.0), (15.0, 10.0, 0.0)], ids=str)
def test_terms_that_let_two_lead_are_refused(terms: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="look < renew < lease"):
        Terms(*terms)


def test_no_two_processes_have_one_name() -> None:
    assert identity() != identity()
