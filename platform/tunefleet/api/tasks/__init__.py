"""The tasks that exist: one torch-free declaration file each, found by looking here.

A new task is this folder's ``<name>.py`` (what it is) and ``tunefleet/tasks/<name>.py``
(what it does); nothing else names it. Imports pydantic alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tunefleet.api.tasks.declaration import Column, Metric, TaskDeclaration, TaskOptions

__all__ = ["Column", "Metric", "TaskDeclaration", "TaskOptions", "declaration_of", "declarations"]


@cache
def declarations() -> dict[str, TaskDeclaration]:
    """Every task by its name, in alphabetical order."""
    found: dict[str, TaskDeclaration] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        if module.name == "declaration":
            continue
        declared = importlib.import_module(f"{__name__}.{module.name}").TASK
        found[declared.name] = declared
    return found


def declaration_of(name: str) -> TaskDeclaration:
    """The declaration of a task; raises ``KeyError`` for an unknown name."""
    return declarations()[name]
