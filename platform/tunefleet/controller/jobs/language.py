"""Whether a cluster can honour a job, in the words that a laptop has for it.

Decides nothing that the models do not: it runs them on what the API server took, and what they
refuse becomes ``Accepted=False`` with the field's path. Imports ``api`` and pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from tunefleet.api.base import BrokenRules
from tunefleet.api.errors import Problem
from tunefleet.api.fields import dotted
from tunefleet.api.job import FineTuneJob
from tunefleet.api.support import unsupported_on_cluster

_METADATA = ("name", "namespace", "labels")


def judge(whole: Mapping[str, object]) -> tuple[FineTuneJob | None, list[Problem]]:
    """The job that an object of the API server asks for, or everything that is wrong with it."""
    metadata = whole.get("metadata")
    told = metadata if isinstance(metadata, Mapping) else {}
    document = {
        "apiVersion": whole.get("apiVersion"),
        "kind": whole.get("kind"),
        "metadata": {name: told[name] for name in _METADATA if name in told},
        "spec": whole.get("spec"),
    }
    try:
        # As JSON, so that a whole number stands for a fraction as it does in a file.
        job = FineTuneJob.model_validate_json(json.dumps(document))
    except ValidationError as error:
        return None, list(_problems(error))
    problems = unsupported_on_cluster(job)
    return (None if problems else job), problems


def no_profile(name: str) -> Problem:
    """The profile that a job names is not there (yet)."""
    remedy = "have an administrator make it, or name one that `kubectl get computeprofiles` lists"
    return Problem(f"there is no ComputeProfile {name}", "spec.profile", remedy)


def unreadable_profile(name: str, error: ValidationError) -> Problem:
    """A profile of another version says something that this one does not know."""
    faults = "; ".join(str(problem).replace("\n    ", " ") for problem in _problems(error))
    remedy = "have an administrator apply it anew"
    return Problem(f"the ComputeProfile {name} cannot be read: {faults}", "spec.profile", remedy)


def _problems(error: ValidationError) -> Iterator[Problem]:
    for details in error.errors(include_url=False, include_input=False):
        where = tuple(step for step in details["loc"])
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, BrokenRules):
            for rule in cause.rules:
                yield Problem(rule.message, dotted((*where, *rule.at)), rule.remedy)
        else:
            yield Problem(details["msg"], dotted(where))
