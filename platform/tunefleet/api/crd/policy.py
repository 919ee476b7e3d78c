"""The rules by which an API server holds a job against its profile, for the chart's policy.

Decides that a rule speaks only where the job names the profile in hand, and that it says what the
laptop's rule says. Imports ``api`` alone.
"""

from __future__ import annotations

from tunefleet.api.crd.structural import Schema
from tunefleet.api.profile import LIMIT_CHECKS, POLICY_VARIABLES


def profile_policy() -> Schema:
    """``variables`` and ``validations`` of a policy whose params are profiles."""
    validations = []
    for check in LIMIT_CHECKS:
        rule = check.as_cel()
        validations.append(
            {
                "expression": f"!variables.applies || ({rule['rule']})",
                "message": rule["message"],
                # A policy has no field's path of its own.
                "messageExpression": f"'{'.'.join(check.at)}: ' + {rule['messageExpression']}",
            }
        )
    return {
        "variables": [
            {"name": name, "expression": expression}
            for name, expression in POLICY_VARIABLES.items()
        ],
        "validations": validations,
    }
