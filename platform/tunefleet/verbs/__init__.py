"""The verbs: what the command line and a notebook do, as typed functions.

Decides where each verb lives. A verb's module is imported when it is first used, so that
``import tunefleet`` loads neither torch nor ray. Imports the standard library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

VERBS = {
    "load": ("jobfile", "load"),
    "init": ("init", "init"),
    "check": ("check", "check"),
    "plan": ("plan", "plan"),
    "run": ("run", "run"),
    "predict": ("predict", "predict"),
    "serve": ("serve", "serve"),
    "serving": ("serve", "serving"),
    "export": ("export", "export"),
    "runs": ("runs", "list_runs"),
    "show_run": ("runs", "show_run"),
    "compare_runs": ("runs", "compare_runs"),
    "run_cost": ("spending", "run_cost"),
    "doctor": ("doctor", "doctor"),
}
"""Verb → its module here and the function in it."""


def verb(name: str) -> Callable[..., object]:
    """The function of a verb, its module imported now; raises ``KeyError``."""
    module, function = VERBS[name]
    found: Callable[..., object] = getattr(
        importlib.import_module(f"tunefleet.verbs.{module}"), function
    )
    return found
