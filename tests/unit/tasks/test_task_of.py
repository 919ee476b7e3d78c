from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from tunefleet.api.errors import SpecError
from tunefleet.api.tasks import declarations
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext


@pytest.mark.parametrize("name", sorted(declarations()))
def test_every_declared_task_has_a_behaviour_that_pickles(name: str) -> None:
    context = TaskContext(declarations()[name].options(), ("a", "b"), 16)
    task = task_of(name, context)
    assert task.context is context
    assert pickle.loads(pickle.dumps(task)).context == context


def test_an_unknown_task_is_refused_with_those_that_exist() -> None:
    context = TaskContext(declarations()["causal-lm"].options(), (), 16)
    with pytest.raises(SpecError, match=r"'speech'.*causal-lm, text-classification"):
        task_of("speech", context)


def test_importing_the_package_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, tunefleet.tasks;"
        "sys.exit(bool({'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
