"""The verbs: what the command line and a notebook do, as typed functions.

Decides where each verb lives and that its module is imported when it is first used, so
that ``import tunefleet`` loads neither torch nor ray. Some verbs share their name with a
module (``tunefleet.verbs.run``) or a package (``tunefleet.plan``): these are made callable,
so that ``tunefleet.plan(job)`` and ``tunefleet.plan.document`` both work, whichever was
imported first. Imports the standard library.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunefleet.verbs.check import check
    from tunefleet.verbs.doctor import doctor
    from tunefleet.verbs.init import init
    from tunefleet.verbs.jobfile import load
    from tunefleet.verbs.plan import plan
    from tunefleet.verbs.predict import predict
    from tunefleet.verbs.run import run
    from tunefleet.verbs.runs import compare_runs, show_run
    from tunefleet.verbs.runs import list_runs as runs
    from tunefleet.verbs.serve import serve

__all__ = [
    "VERBS",
    "Facade",
    "VerbModule",
    "check",
    "compare_runs",
    "doctor",
    "init",
    "load",
    "plan",
    "predict",
    "run",
    "runs",
    "serve",
    "show_run",
    "verb",
]

VERBS = {
    "load": ("jobfile", "load"),
    "init": ("init", "init"),
    "check": ("check", "check"),
    "plan": ("plan", "plan"),
    "run": ("run", "run"),
    "predict": ("predict", "predict"),
    "serve": ("serve", "serve"),
    "runs": ("runs", "list_runs"),
    "show_run": ("runs", "show_run"),
    "compare_runs": ("runs", "compare_runs"),
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


class VerbModule(ModuleType):
    """A module or package that shares its name with a verb; calling it calls the verb."""

    def __call__(self, *given: object, **named: object) -> object:
        """Call the verb of this name."""
        return verb(self.__name__.rpartition(".")[2])(*given, **named)


class Facade(ModuleType):
    """A package whose attributes are the verbs, each imported when it is first used."""

    def __getattr__(self, name: str) -> object:
        if name in VERBS:
            return verb(name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        # Python binds an imported submodule to its package here.
        if name in VERBS and type(value) is ModuleType:
            value.__class__ = VerbModule
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *VERBS})


sys.modules[__name__].__class__ = Facade
