"""A real API server takes the definitions, refuses wrong jobs, and says what the laptop says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from docs.reference.generate import CRDS
from tests.cluster.api import APPLY, MERGE, Answer, Api, administrator
from tests.cluster.language import CASES, RIGHT, STORE, Values
from tests.testbed.clusters import Cluster
from tests.unit.house.tree import ROOT as HOUSE
from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.base import in_one_line
from tunefleet.api.crd.resources import ATTEMPTS, GROUP, JOBS, VERSION
from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.support import unsupported_on_cluster
from tunefleet.verbs.jobfile import parse

STRICT = "fieldValidation=Strict&fieldManager=test"


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    """The server, with the shipped definitions applied and in force."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    names = [f"crd/{kind.name}" for kind in (JOBS, ATTEMPTS)]
    cluster.kubectl("wait", "--for=condition=Established", *names)
    with administrator(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def home(cluster: Cluster, api: Api) -> Iterator[str]:
    """A namespace for the whole table."""
    with cluster.namespace() as name:
        yield name


def job(spec: Values, name: str = "made") -> dict[str, object]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {**RIGHT, **spec},
    }


def place(namespace: str, plural: str = JOBS.plural, name: str = "", query: str = STRICT) -> str:
    tail = f"/{name}" if name else ""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}{tail}?{query}"


def tried(api: Api, namespace: str, body: object) -> Answer:
    """Whether the server would take a job, without making it."""
    return api.call("POST", place(namespace, query=f"{STRICT}&dryRun=All"), body)


def told_on_a_laptop(body: Mapping[str, object]) -> set[tuple[str, str]]:
    """Field and sentence of everything that is wrong with a job, for whoever wrote it."""
    problems: list[Problem] = []
    try:
        # As `submit` does: what a cluster alone can do is nothing wrong.
        parse(json.dumps(body), "job.yaml", refused=unsupported_on_cluster)
    except SpecError as error:
        problems += error.problems
    return {(each.where, in_one_line(each.message, each.remedy)) for each in problems}


def told_by_the_server(answer: Answer) -> set[tuple[str, str]]:
    """The same, without the value that the server puts before it."""
    return {
        (field, re.sub(r'^(Invalid value|Forbidden): ("(?:[^"\\]|\\.)*": )?', "", message))
        for field, message in answer.causes
    }


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_job_is_told_the_same_on_the_laptop_and_by_the_server(
    api: Api, home: str, case: str
) -> None:
    body = job(CASES[case][0])
    answer = tried(api, home, body)
    assert answer.code == 422
    assert told_by_the_server(answer) == told_on_a_laptop(body) != set()


@pytest.mark.parametrize("case", CASES)
def test_the_mended_job_is_taken_by_both(api: Api, home: str, case: str) -> None:
    body = job(CASES[case][1])
    answer = tried(api, home, body)
    assert answer.code == 201, answer.message
    assert told_on_a_laptop(body) == set()


@pytest.mark.parametrize("name", ["7-days", "a.b", "a" * 64])
def test_a_job_that_could_not_name_its_pods_is_refused(api: Api, home: str, name: str) -> None:
    answer = tried(api, home, job({}, name))
    assert answer.code == 422
    ((field, message),) = told_by_the_server(answer)
    assert field == "metadata.name"
    assert message.startswith(f"`{name}` cannot name a job's pods and services → give at most 63")


def test_every_rule_of_a_job_has_a_case_that_breaks_it(api: Api, home: str) -> None:
    told: set[tuple[str, str]] = set()
    for wrong, _ in CASES.values():
        told |= told_by_the_server(tried(api, home, job(wrong)))
    told |= told_by_the_server(tried(api, home, job({}, "7")))
    never = [
        path
        for path, rule in rules_of(schema_of(JOBS.manifest({})), "")
        if rule.get("reason") != "FieldValueForbidden"
        and not any(hits(path, rule, *t) for t in told)
    ]
    # The laptop says these in other words; the table of wrong shapes has them.
    assert sorted(never) == [
        "spec.budget.maxDuration",
        "spec.checkpoints.every",
        "spec.data.columns",
    ]


def schema_of(manifest: Mapping[str, object]) -> Mapping[str, object]:
    spec = cast("Mapping[str, list[Mapping[str, Mapping[str, object]]]]", manifest["spec"])
    return cast("Mapping[str, object]", spec["versions"][0]["schema"]["openAPIV3Schema"])


def rules_of(node: Mapping[str, object], path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for rule in cast("list[Mapping[str, str]]", node.get("x-kubernetes-validations", [])):
        yield path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "")[1:], rule
    for name, below in cast(
        "Mapping[str, Mapping[str, object]]", node.get("properties", {})
    ).items():
        yield from rules_of(below, f"{path}.{name}" if path else name)


def hits(path: str, rule: Mapping[str, str], field: str, message: str) -> bool:
    pattern = re.sub(r"\\\(\w+\\\)", ".*", re.escape(rule["message"]))
    return field == path and re.fullmatch(pattern, message) is not None


@pytest.mark.parametrize(
    "path", sorted((HOUSE / "jobs" / "cluster").glob("*.yaml")), ids=lambda path: path.name
)
def test_a_job_that_comes_with_the_project_is_taken(api: Api, home: str, path: Path) -> None:
    body = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    answer = tried(api, home, body)
    assert answer.code == 201, answer.message
    assert unsupported_on_cluster(FineTuneJob.model_validate(body)) == []


WRONG_SHAPES: dict[str, tuple[Values, str]] = {
    "a number in quotes": ({"training": {"epochs": "3"}}, "spec.training.epochs"),
    "a text for a block": ({"training": "fast"}, "spec.training"),
    "an unknown task": ({"task": "poetry"}, "spec.task"),
    "a batch of none": ({"training": {"batchSize": 0}}, "spec.training.batchSize"),
    "a rate of nothing": ({"training": {"optimizer": {"learningRate": 0}}}, "learningRate"),
    "an interval in words": ({"checkpoints": {"uri": STORE, "every": "often"}}, "every"),
    "a micro-batch in words": ({"training": {"microBatch": "big"}}, "microBatch"),
    "no time at all": ({"budget": {"maxDuration": "0h0m"}}, "a duration of zero; write it like"),
    "saved without end": ({"checkpoints": {"uri": STORE, "every": "0s"}}, "a duration of zero;"),
    "no training rows": ({"data": {}}, "spec.data.train"),
    "a list of files": ({"data": {"train": {"uri": [STORE]}}}, "spec.data.train.uri"),
    "a budget without a limit": ({"budget": {}}, "spec.budget.maxDuration"),
    "quantised adapters": ({"model": {"name": "a", "method": {"type": "qlora"}}}, "method.type"),
    "suspension by budget": (
        {"budget": {"maxDuration": "6h", "onExceeded": "Suspend"}},
        "spec.budget.onExceeded",
    ),
    "a column without a name": (
        {"data": {"train": {"uri": STORE}, "columns": {"": "a"}}},
        "spec.data.columns",
    ),
}


@pytest.mark.parametrize(("spec", "field"), WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_a_wrong_shape_is_refused_with_its_field(
    api: Api, home: str, spec: Values, field: str
) -> None:
    body = job(spec)
    answer = tried(api, home, body)
    assert answer.code == 422
    assert field in answer.message
    with pytest.raises((ValidationError, AssertionError)):
        assert not unsupported_on_cluster(FineTuneJob.model_validate(body))


@pytest.mark.parametrize(
    "spec",
    [
        {"trainig": {}},
        {"training": {"lr": 1}},
        {"serving": {"service": "reviews"}},
        {"budget": {"maxDuration": "6h", "maxCost": "25.00"}},
        {"model": {"name": "a", "trustRemoteCode": True}},
    ],
    ids=json.dumps,
)
def test_an_unknown_field_and_one_that_is_not_offered_are_refused(
    api: Api, home: str, spec: Values
) -> None:
    answer = tried(api, home, job(spec))
    assert answer.code == 400
    assert "unknown field" in answer.message


def test_the_server_fills_in_what_the_laptop_takes_for_granted(api: Api, home: str) -> None:
    body = job({"training": {"optimizer": {"clipNorm": None}}})
    kept = tried(api, home, body).body
    again = FineTuneJob.model_validate({**body, "spec": kept["spec"]})
    assert again == FineTuneJob.model_validate(body)
    assert again.spec.training.optimizer.clip_norm is None
    assert again.spec.model_fields_set > {"training", "evaluation", "retry", "workers"}


CHANGES: dict[str, Values] = {
    "another seed": {"training": {"seed": 18}},
    "another model": {"model": {"name": "x"}},
    "a tracker more": {"tracking": {"tensorboard": True}},
    "options more": {"textClassification": {"labelSmoothing": 0.1}},
    "other rows": {"data": {"train": {"uri": "s3://bucket/other.csv"}}},
    "a worker more": {"workers": {"count": 2}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_that_is_there_stays_what_it_is(api: Api, home: str, change: str) -> None:
    assert api.call(
        "PATCH", place(home, name="fixed", query=f"{STRICT}&force=true"), job({}, "fixed"), APPLY
    ).code in {200, 201}
    answer = api.call("PATCH", place(home, name="fixed"), {"spec": CHANGES[change]}, MERGE)
    ((field, message),) = told_by_the_server(answer)
    assert field == f"spec.{next(iter(CHANGES[change]))}"
    assert message == (
        "cannot change while the job is there → delete the job and apply it anew, "
        "or give it another name"
    )


def test_the_budget_and_the_labels_may_change(api: Api, home: str) -> None:
    assert api.call("POST", place(home), job({}, "spending")).code == 201
    for duration in ("6h", "7h", None):
        budget = None if duration is None else {"maxDuration": duration}
        answer = api.call(
            "PATCH", place(home, name="spending"), {"spec": {"budget": budget}}, MERGE
        )
        assert answer.code == 200, answer.message
    labels = {"metadata": {"labels": {"team": "reviews"}}}
    assert api.call("PATCH", place(home, name="spending"), labels, MERGE).code == 200


def attempt(name: str = "made-0") -> dict[str, object]:
    spec = AttemptSpec(
        job="made", owner="u", number=0, stage=Stage.PREPARE, manifest={"a": {"b": [1]}}
    )
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "FineTuneAttempt",
        "metadata": {"name": name},
        "spec": json.loads(spec.to_json()),
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"manifest": {"a": {"b": [2]}}}, "spec.manifest"),
        ({"plan": {"steps": 1}}, "spec.plan"),
        ({"number": 1}, "spec.number"),
        ({"run": "run-0002"}, "spec.run"),
        ({"sequence": 2}, "spec.sequence"),
    ],
    ids=["another job inside", "another plan", "another number", "another run", "an older command"],
)
def test_an_attempt_stays_as_it_was_made_and_takes_newer_commands(
    api: Api, home: str, change: Values, field: str
) -> None:
    name = f"attempt-{field.removeprefix('spec.')}"
    made = api.call("POST", place(home, ATTEMPTS.plural), attempt(name))
    assert made.code == 201, made.message
    stop = {"spec": {"command": "CheckpointAndStop", "sequence": 3}}
    where = place(home, ATTEMPTS.plural, name)
    assert api.call("PATCH", where, stop, MERGE).code == 200
    answer = api.call("PATCH", where, {"spec": change}, MERGE)
    assert [given for given, _ in told_by_the_server(answer)] == [field]


def test_an_attempt_reads_back_as_it_was_written(api: Api, home: str) -> None:
    body = attempt("read-back")
    kept = api.call("POST", place(home, ATTEMPTS.plural), body).body
    assert AttemptSpec.model_validate_json(json.dumps(kept["spec"])) == (
        AttemptSpec.model_validate_json(json.dumps(body["spec"]))
    )


def test_columns_tell_where_a_job_stands(cluster: Cluster, api: Api, home: str) -> None:
    assert api.call("POST", place(home), job({}, "shown")).code == 201
    status = {
        "status": {
            "phase": "Running",
            "run": "run-0001",
            "message": "on its way",
            "progress": {"step": 120, "totalSteps": 450, "eta": "12:03"},
            "evaluation": {"metric": "f1_macro", "best": 0.875},
        }
    }
    where = place(home, name="shown/status")
    assert api.call("PATCH", where, status, MERGE).code == 200
    shown = cluster.kubectl("get", "ftj", "shown", "-n", home, "-o", "wide", "--no-headers")
    assert shown.split()[:6] == ["shown", "Running", "120", "450", "12:03", "0.875"]
    assert shown.split()[7:] == ["run-0001", "on", "its", "way"]
    assert "shown" in cluster.kubectl("get", "tunefleet", "-n", home, "-o", "name")


def test_conditions_can_be_waited_for_and_are_kept_by_type(
    cluster: Cluster, api: Api, home: str
) -> None:
    assert api.call("POST", place(home), job({}, "waited")).code == 201
    base = {"reason": "Finished", "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}
    twice = [{**base, "type": "Succeeded", "status": status} for status in ("True", "False")]
    where = place(home, name="waited/status")
    answer = api.call("PATCH", where, {"status": {"conditions": twice}}, MERGE)
    assert "Duplicate value" in answer.message
    answer = api.call("PATCH", where, {"status": {"conditions": twice[:1]}}, MERGE)
    assert answer.code == 200, answer.message
    cluster.kubectl("wait", "--for=condition=Succeeded", "ftj/waited", "-n", home, "--timeout=5s")
