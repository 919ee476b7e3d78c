"""Fine-tune any Hugging Face model from one declarative file, and know what it costs.

The verbs of the command line, for notebooks: ``load``, ``check``, ``plan``, ``run``,
``predict``, ``serve`` (``serving`` for a block), ``runs`` (``show_run``, ``compare_runs``,
``run_cost``), ``export``, ``doctor``, ``init``. Each is imported when it is first used; ``import
tunefleet`` loads neither torch nor ray.

Three verbs share their name with a package, ``plan``, ``serve`` and ``export``: the package is made
callable, so that ``tunefleet.plan(job)`` and ``tunefleet.plan.document`` both work,
whichever was used first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from tunefleet.verbs import VERBS, verb

if TYPE_CHECKING:
    from tunefleet.verbs.check import check
    from tunefleet.verbs.doctor import doctor
    from tunefleet.verbs.export import export
    from tunefleet.verbs.init import init
    from tunefleet.verbs.jobfile import load
    from tunefleet.verbs.plan import plan
    from tunefleet.verbs.predict import predict
    from tunefleet.verbs.run import run
    from tunefleet.verbs.runs import compare_runs, show_run
    from tunefleet.verbs.runs import list_runs as runs
    from tunefleet.verbs.serve import serve, serving
    from tunefleet.verbs.spending import run_cost

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "check",
    "compare_runs",
    "doctor",
    "export",
    "init",
    "load",
    "plan",
    "predict",
    "run",
    "run_cost",
    "runs",
    "serve",
    "serving",
    "show_run",
]


class _CallablePackage(ModuleType):
    """A package that shares its name with a verb; calling it calls the verb."""

    def __call__(self, *given: object, **named: object) -> object:
        """Call the verb of this name."""
        return verb(self.__name__.rpartition(".")[2])(*given, **named)


class _Facade(ModuleType):
    """This package: its attributes are the verbs, each imported when it is first used."""

    def __getattr__(self, name: str) -> object:
        if name in VERBS:
            return verb(name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        # Python binds an imported package to its parent here.
        if name in VERBS and type(value) is ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *VERBS})


sys.modules[__name__].__class__ = _Facade
