"""Doing what was decided: at most one write to another object, then at most one status.

Decides what a refusal of the API server means: an object that is there already and ours is as
good as made, anything else is told in the job's status in the server's own words. Imports
``kube`` and ``api``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunefleet.api.status import JobPhase, JobStatus, Reason
from tunefleet.controller.jobs.decision import Create, Decision
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, RAY_JOBS
from tunefleet.controller.seen import JobSeen, Seen
from tunefleet.controller.versions import kuberay_too_old
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError

REFUSED_AGAIN = 30.0


async def execute(client: Client, seen: JobSeen, decision: Decision) -> float | None:
    """Carry a decision out; in how many seconds to look again (None: when something happens).

    Raises :class:`~tunefleet.kube.errors.ApiError` where trying again is all there is to do.
    """
    status, again = decision.status, decision.again
    if decision.create is not None:
        refusal = await _make(client, seen, decision.create)
        if refusal is not None:
            status = _refused(status, *refusal)
            again = REFUSED_AGAIN
        else:
            # Its own event comes too; a watch that lags must not leave the job waiting.
            again = min(again or 5.0, 5.0)
    if decision.delete is not None:
        gone = decision.delete
        await client.delete(gone.resource, seen.namespace, gone.name, uid=gone.uid)
    if decision.ask is not None:
        asked = {"command": decision.ask.command.value, "sequence": decision.ask.sequence}
        await client.patch(ATTEMPTS, seen.namespace, decision.ask.attempt, {"spec": asked})
    await _tell(client, seen, status)
    return again


async def _make(client: Client, seen: JobSeen, create: Create) -> tuple[Reason, str] | None:
    """Make the object; why it cannot be made, or None."""
    try:
        await client.create(create.resource, seen.namespace, create.body)
    except ApiError as error:
        if error.already_exists:
            return await _whose(client, seen, create)
        if create.resource == RAY_JOBS and (told := kuberay_too_old(error.message)):
            return Reason.KUBERAY_TOO_OLD, told
        if error.status in {400, 403, 404, 422}:
            return Reason.LAUNCHING, f"{create.resource.kind}: {error.message}"
        raise
    return None


async def _whose(client: Client, seen: JobSeen, create: Create) -> tuple[Reason, str] | None:
    """An object of that name is there: None when it is ours."""
    metadata = create.body["metadata"]
    assert isinstance(metadata, Mapping)
    name = str(metadata["name"])
    try:
        found = Seen.model_validate(await client.get(create.resource, seen.namespace, name))
    except ApiError as error:
        if error.not_found:
            return Reason.LAUNCHING, f"{create.resource.kind} {name} is being deleted"
        raise
    owners = metadata["ownerReferences"]
    assert isinstance(owners, list)
    if found.owner_uid == owners[0]["uid"] and not found.going:
        return None
    if found.going:
        return Reason.LAUNCHING, f"waiting until the old {create.resource.kind} {name} is gone"
    return (
        Reason.NAME_TAKEN,
        f"a {create.resource.kind} called {name} is there and belongs to somebody else; "
        "delete it, or give the job another name",
    )


def _refused(status: JobStatus, reason: Reason, message: str) -> JobStatus:
    """A status that says what could not be made."""
    phase = status.phase if status.phase is not JobPhase.PENDING else JobPhase.PREPARING
    conditions = [
        condition.model_copy(update={"reason": reason, "message": message})
        if condition.type.value == "Reconciling"
        else condition
        for condition in status.conditions
    ]
    return status.model_copy(update={"phase": phase, "message": message, "conditions": conditions})


async def _tell(client: Client, seen: JobSeen, status: JobStatus) -> None:
    """Write the status where it differs from what was seen."""
    wanted, known = _values(status), _values(seen.status)
    if wanted == known:
        return
    body = {
        "metadata": {"resourceVersion": seen.resource_version},
        "status": _replacing(known, wanted),
    }
    await client.patch(FINE_TUNE_JOBS, seen.namespace, seen.name, body, sub="status")


def _values(status: JobStatus) -> dict[str, object]:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _replacing(known: Mapping[str, object], wanted: Mapping[str, object]) -> dict[str, object]:
    """A merge patch that leaves nothing of ``known`` but what ``wanted`` says."""
    patch: dict[str, object] = dict.fromkeys(known)
    for name, value in wanted.items():
        old = known.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        patch[name] = _replacing(old, value) if both else value  # type: ignore[arg-type]
    return patch
