"""The job files people start from: they load, nothing in them is refused, their data is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.unit.house.tree import ROOT, name_of
from tunefleet.api.support import unsupported
from tunefleet.api.tasks import declarations
from tunefleet.controller.jobs.language import judge
from tunefleet.verbs.jobfile import load

ON_CLUSTER = sorted(ROOT.glob("jobs/cluster/*.yaml"))
JOBS = sorted(
    {*ROOT.glob("jobs/*.yaml"), *ROOT.glob("jobs/*/*.yaml")} - set(ON_CLUSTER),
)


@pytest.mark.parametrize("path", JOBS, ids=name_of)
def test_a_job_file_loads_and_is_honoured_in_full(path: Path) -> None:
    assert unsupported(load(path).job) == []


@pytest.mark.parametrize("path", ON_CLUSTER, ids=name_of)
def test_a_job_file_for_a_cluster_is_honoured_there_in_full(path: Path) -> None:
    job, problems = judge(YAML(typ="safe").load(path.read_text()))
    assert job is not None
    assert problems == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("jobs/*.yaml")), ids=name_of)
def test_a_job_file_names_data_that_lies_beside_it(path: Path) -> None:
    uri = load(path).job.spec.data.train.uri
    assert isinstance(uri, str)
    assert (path.parent / uri).is_file()


def test_every_task_has_a_job_file() -> None:
    assert {load(path).job.spec.task for path in JOBS} == set(declarations())


def test_job_names_are_unique() -> None:
    names = [load(path).job.metadata.name for path in JOBS]
    assert len(set(names)) == len(names)
