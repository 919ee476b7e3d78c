"""The shipped NetworkPolicy, read as a network that enforces it reads it.

The bed's bridge enforces none, so the policy is evaluated: by Kubernetes' own rules, over the pods
that the platform describes and those that should not reach them. A server takes it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cluster.installed import rendered
from tunefleet.render.names import labels

TEAM = "team-a"
JOB = labels("reviews", "reviews-0a1b2-1") | {"ray.io/node-type": "head"}


@dataclass(frozen=True, slots=True)
class Pod:
    """Somebody on the network: in a namespace of the cluster, or at an address outside."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


HEAD = Pod(TEAM, JOB)
WORKER = Pod(TEAM, labels("reviews", "reviews-0a1b2-1") | {"ray.io/node-type": "worker"})
STRANGER = Pod(TEAM, {"app": "notebook"})
ELSEWHERE = Pod("team-b", JOB)
OPERATOR = Pod("kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
STORAGE = Pod(address="203.0.113.7")
OUTSIDE = Pod(address="198.51.100.1")
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})


def policies(*options: str) -> list[dict[str, Any]]:
    text = rendered(f"--set=jobNamespaces={{{TEAM}}}", *options)
    found = [each for each in YAML(typ="safe").load_all(text) if each]
    return [each for each in found if each["kind"] == "NetworkPolicy"]


def may_reach(found: Sequence[Mapping[str, Any]], source: Pod, target: Pod, port: int) -> bool:
    """Whether a connection is let through, by the policies at both ends."""
    return _let(found, target, source, port, "ingress", "from") and _let(
        found, source, target, port, "egress", "to"
    )


def _let(
    found: Sequence[Mapping[str, Any]], here: Pod, other: Pod, port: int, way: str, peers: str
) -> bool:
    bound = [
        policy["spec"]
        for policy in found
        if policy["metadata"]["namespace"] == here.namespace
        and _selects(policy["spec"]["podSelector"], here.labels)
        and way.capitalize() in policy["spec"]["policyTypes"]
    ]
    if not bound:
        return True
    return any(
        _port_is(rule, port) and _peer_is(rule.get(peers), here, other)
        for spec in bound
        for rule in spec.get(way, ())
    )


def _port_is(rule: Mapping[str, Any], port: int) -> bool:
    return "ports" not in rule or port in {each["port"] for each in rule["ports"]}


def _peer_is(peers: Sequence[Mapping[str, Any]] | None, here: Pod, other: Pod) -> bool:
    if peers is None:
        return True
    return any(_is(peer, here, other) for peer in peers)


def _is(peer: Mapping[str, Any], here: Pod, other: Pod) -> bool:
    if "ipBlock" in peer:
        block = ip_network(peer["ipBlock"]["cidr"])
        return bool(other.address) and ip_address(other.address) in block
    if not other.namespace:
        return False
    named = {"kubernetes.io/metadata.name": other.namespace}
    if "namespaceSelector" in peer:
        near = _selects(peer["namespaceSelector"], named)
    else:
        near = other.namespace == here.namespace
    return near and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Mapping[str, Any], found: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    if any(found.get(key) != value for key, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions", ()):
        held = each["key"] in found
        if each["operator"] == "In":
            held = held and found[each["key"]] in each["values"]
        if not held:
            return False
    return True


INGRESS: dict[str, tuple[Pod, Pod, int, bool]] = {
    "a worker reaches its head": (WORKER, HEAD, 6379, True),
    "a head reaches a worker": (HEAD, WORKER, 10002, True),
    "the operator asks the head how its job fares": (OPERATOR, HEAD, 8265, True),
    "the operator reaches no other port": (OPERATOR, HEAD, 10001, False),
    "a notebook of the namespace submits nothing": (STRANGER, HEAD, 8265, False),
    "a job of another namespace submits nothing": (ELSEWHERE, HEAD, 8265, False),
    "nobody outside does": (OUTSIDE, HEAD, 8265, False),
    "metrics are read by nobody unless asked": (PROMETHEUS, HEAD, 8080, False),
    "a notebook is left alone": (OUTSIDE, STRANGER, 8888, True),
    "a job speaks to anybody unless asked": (HEAD, OUTSIDE, 443, True),
}


@pytest.mark.parametrize(("source", "target", "port", "let"), INGRESS.values(), ids=INGRESS)
def test_as_it_comes(source: Pod, target: Pod, port: int, let: bool) -> None:
    assert may_reach(policies(), source, target, port) is let


BOUND: dict[str, tuple[Pod, Pod, int, bool]] = {
    "a worker reaches its head": (WORKER, HEAD, 6379, True),
    "storage among the ranges is reached": (WORKER, STORAGE, 443, True),
    "what is not among them is not": (WORKER, OUTSIDE, 443, False),
    "names are looked up": (WORKER, DNS, 53, True),
    "other pods are not reached": (WORKER, STRANGER, 80, False),
    "metrics are read by whom was named": (PROMETHEUS, HEAD, 8080, True),
    "who reads metrics reaches no other port": (PROMETHEUS, HEAD, 8265, False),
}


@pytest.mark.parametrize(("source", "target", "port", "let"), BOUND.values(), ids=BOUND)
def test_with_ranges_and_a_reader_of_metrics(
    source: Pod, target: Pod, port: int, let: bool
) -> None:
    found = policies(
        "--set=networkPolicies.egress={203.0.113.0/24}",
        "--set=networkPolicies.metricsFrom={monitoring}",
    )
    assert may_reach(found, source, target, port) is let


def test_it_can_be_left_to_others() -> None:
    assert policies("--set=networkPolicies.enabled=false") == []
    assert len(policies()) == 1
