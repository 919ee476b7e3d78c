"""What each task does, found by its name.

``text-classification`` is ``tunefleet.tasks.text_classification``, whose ``BEHAVIOUR`` is a
class that fulfils :class:`tunefleet.tasks.contract.Task`; nothing lists the tasks. Importing
this package loads neither torch nor transformers; ``task_of`` does. Imports ``api``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tunefleet.api.errors import SpecError
from tunefleet.api.tasks import declarations

if TYPE_CHECKING:
    from tunefleet.tasks.contract import Task, TaskContext

__all__ = ["task_of"]


def task_of(name: str, context: TaskContext) -> Task:
    """The behaviour of a task, bound to a job's options; raises ``SpecError``."""
    if name not in declarations():
        raise SpecError(f"unknown task {name!r}; known are {', '.join(declarations())}")
    module = f"{__name__}.{name.replace('-', '_')}"
    behaviour: type[Task] = importlib.import_module(module).BEHAVIOUR
    return behaviour(context)
