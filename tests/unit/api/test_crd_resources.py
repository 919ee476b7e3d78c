"""The definitions that are shipped are those of the models, and say the same as the laptop."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.reference.generate import CRDS, POLICY, definition, policy
from tunefleet.api.crd.resources import JOBS, KINDS, Kind
from tunefleet.api.crd.text import to_yaml
from tunefleet.api.support import ONE_WORD, REFUSED_ON_CLUSTER

BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def nodes(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from nodes(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nodes(item, (*path, str(index)))


@BY_KIND
def test_the_shipped_file_is_current(kind: Kind) -> None:
    text = (CRDS / f"{kind.plural}.yaml").read_text(encoding="utf-8")
    assert text == definition(kind), "run `make docs`"


def test_the_rules_for_profiles_are_current() -> None:
    assert POLICY.read_text(encoding="utf-8") == policy(), "run `make docs`"


@BY_KIND
def test_another_reader_of_yaml_reads_the_same(kind: Kind) -> None:
    manifest = kind.manifest({})
    assert YAML(typ="safe").load(StringIO(to_yaml(manifest))) == manifest


def test_only_the_kinds_with_a_controller_are_shipped() -> None:
    assert {path.name for path in Path(CRDS).iterdir()} == {f"{kind.plural}.yaml" for kind in KINDS}


@BY_KIND
def test_every_rule_points_at_a_field_that_is_offered(kind: Kind) -> None:
    root = kind.manifest({})["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[index]
    lost = []
    for _, node in nodes(root):
        rules = node.get("x-kubernetes-validations", []) if isinstance(node, dict) else []
        for rule in rules if isinstance(rules, list) else []:
            here: Any = node
            for step in rule.get("fieldPath", "").split(".")[1:]:
                here = here.get("properties", {}).get(step, {})
            if not here:
                lost.append(rule)
    assert lost == []


@pytest.mark.parametrize("path", REFUSED_ON_CLUSTER)
def test_a_cluster_is_not_offered_what_it_refuses(path: str) -> None:
    node: object = JOBS.manifest({})["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[index]
    for step in path.split("."):
        assert isinstance(node, dict)
        assert isinstance(node["properties"], dict)
        if step not in node["properties"]:
            assert path not in ONE_WORD
            return
        node = node["properties"][step]
    assert isinstance(node, dict)
    assert ONE_WORD[path] not in node["enum"]
    assert node["enum"]


@pytest.mark.parametrize(
    "value",
    ["None", "no", "1.0", "~", "a: b", "#x", "- a", "", "é", "a\nb", True, None, 1e-05, [], {}],
    ids=repr,
)
def test_a_value_that_yaml_could_misread_is_quoted(value: object) -> None:
    document = {"a": value, "b": [{"c": value}, value, [value]]}
    assert YAML(typ="safe").load(StringIO(to_yaml(document))) == document


def test_every_field_of_a_job_is_explained() -> None:
    text = definition(JOBS)
    schema = YAML(typ="safe").load(StringIO(text))["spec"]["versions"][0]["schema"]
    silent = [
        ".".join(path)
        for path, node in nodes(schema["openAPIV3Schema"]["properties"]["spec"])
        if len(path) > 1 and path[-2] == "properties" and "description" not in node  # type: ignore[operator]
    ]
    assert silent == []
