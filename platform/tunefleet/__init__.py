"""Fine-tune any Hugging Face model from one declarative file, and know what it costs.

The verbs of the command line, for notebooks: ``load``, ``check``, ``plan``, ``run``,
``predict``, ``serve``, ``runs`` (``show_run``, ``compare_runs``), ``doctor``, ``init``. Each
is imported when it is first used; ``import tunefleet`` loads neither torch nor ray.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tunefleet.verbs import Facade

if TYPE_CHECKING:
    from tunefleet.verbs import (
        check,
        compare_runs,
        doctor,
        init,
        load,
        plan,
        predict,
        run,
        runs,
        serve,
        show_run,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
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
]

sys.modules[__name__].__class__ = Facade
