"""Who may do what: the controller, a job's pods and people, asked of a real API server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from docs.reference.generate import CRDS
from tests.cluster.api import MERGE, Answer, Api, administrator, bearer
from tests.cluster.installed import Release, installed
from tests.testbed.clusters import Cluster
from tunefleet.api.crd.resources import ATTEMPTS, GROUP, VERSION

OWN = "reviews-0a1b2-1"
OTHERS = "reviews-0a1b2-12"
ACCOUNT = "trainer"


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace with two attempts and a service account, and one beside it."""

    cluster: Cluster
    admin: Api
    release: Release
    namespace: str
    elsewhere: str

    def attempt(self, name: str, namespace: str = "", sub: str = "") -> str:
        where = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace or self.namespace}"
        return f"{where}/{ATTEMPTS.plural}/{name}{sub}?fieldManager=test"

    def token(self, pod: str | None, namespace: str = "") -> str:
        """A token as the kubelet asks for it, bound to a pod of this name."""
        home = f"/api/v1/namespaces/{namespace or self.namespace}"
        spec: dict[str, object] = {"expirationSeconds": 600}
        if pod is not None:
            container = {"name": "a", "image": "a", "imagePullPolicy": "Never"}
            body = {
                "metadata": {"name": pod},
                "spec": {"serviceAccountName": ACCOUNT, "containers": [container]},
            }
            made = self.admin.call("POST", f"{home}/pods", body)
            assert made.code in {201, 409}, made.message
            there = self.admin.call("GET", f"{home}/pods/{pod}").body
            uid = there["metadata"]["uid"]  # type: ignore[index]
            bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
            spec["boundObjectRef"] = bound
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.admin.call("POST", f"{home}/serviceaccounts/{ACCOUNT}/token", request)
        assert answer.code == 201, answer.message
        return str(answer.body["status"]["token"])  # type: ignore[index]


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[Home]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{ATTEMPTS.name}")
    with (
        cluster.namespace() as here,
        cluster.namespace() as there,
        administrator(cluster) as admin,
        installed(cluster, f"--set=jobNamespaces={{{here},{there}}}") as release,
    ):
        found = Home(cluster, admin, release, here, there)
        for namespace in (here, there):
            cluster.kubectl("create", "serviceaccount", ACCOUNT, "-n", namespace)
        for name in (OWN, OTHERS):
            made = admin.call("POST", found.attempt(""), attempt(name))
            assert made.code == 201, made.message
        _wait_until_in_force(found)
        yield found


def attempt(name: str) -> dict[str, object]:
    spec = {"job": "reviews", "owner": "u", "number": 1, "stage": "Train", "manifest": {}}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "FineTuneAttempt",
        "metadata": {"name": name},
        "spec": spec,
    }


def _wait_until_in_force(home: Home) -> None:
    """A policy is enforced some seconds after it is made."""
    token = home.token("stranger-abcde")
    deadline = time.monotonic() + 60
    with bearer(home.cluster, token) as pod:
        while report(pod, home, OWN).code != 422:
            assert time.monotonic() < deadline, "the policy is not enforced"
            time.sleep(0.5)


def report(who: Api, home: Home, name: str, namespace: str = "") -> Answer:
    body = {"status": {"run": "run-0001"}}
    return who.call("PATCH", home.attempt(name, namespace, "/status"), body, MERGE)


PODS = {
    "the pod that prepares or submits": (f"{OWN}-x7k2p", OWN, 200),
    "its head": (f"{OWN}-b4d5f-head-q8w9z", OWN, 200),
    "one of its workers": (f"{OWN}-b4d5f-workers-worker-q8w9z", OWN, 200),
    "a pod of an attempt whose name goes on": (f"{OTHERS}-x7k2p", OWN, 422),
    "a pod of an attempt whose name is shorter": (f"{OWN}-x7k2p", OTHERS, 422),
    "a worker of another attempt": (f"{OTHERS}-b4d5f-workers-worker-q8w9z", OWN, 422),
    "a pod that is called like the attempt": (OWN, OWN, 422),
    "a pod with more in front": (f"x-{OWN}-x7k2p", OWN, 422),
    "a pod with more behind": (f"{OWN}-x7k2p-more1", OWN, 422),
    "a pod of another group": (f"{OWN}-b4d5f-others-worker-q8w9z", OWN, 422),
    "a pod with six letters": (f"{OWN}-x7k2pp", OWN, 422),
}


@pytest.mark.parametrize(("pod", "name", "code"), PODS.values(), ids=PODS)
def test_a_pod_reports_into_its_own_attempt_and_no_other(
    home: Home, pod: str, name: str, code: int
) -> None:
    with bearer(home.cluster, home.token(pod)) as who:
        answer = report(who, home, name)
    assert answer.code == code, answer.message
    if code == 422:
        assert f"the pod {pod} is no pod of the attempt {name}" in answer.message
        assert "only the attempt's own pods write its status" in answer.message


def test_the_reply_carries_the_spec_and_a_spec_in_the_report_is_ignored(home: Home) -> None:
    body = {"status": {"run": "run-0007"}, "spec": {"command": "CheckpointAndStop"}}
    with bearer(home.cluster, home.token(f"{OWN}-x7k2p")) as who:
        answer = who.call("PATCH", home.attempt(OWN, sub="/status"), body, MERGE)
    assert answer.code == 200, answer.message
    assert answer.body["status"]["run"] == "run-0007"  # type: ignore[index]
    assert answer.body["spec"]["command"] == "None"  # type: ignore[index]
    assert answer.body["spec"]["job"] == "reviews"  # type: ignore[index]


def test_a_token_of_no_pod_reports_nowhere(home: Home) -> None:
    with bearer(home.cluster, home.token(None)) as who:
        answer = report(who, home, OWN)
    assert answer.code == 422
    assert f"system:serviceaccount:{home.namespace}:{ACCOUNT} is no pod of" in answer.message


def test_a_pod_of_another_namespace_has_no_right_here(home: Home) -> None:
    with bearer(home.cluster, home.token(f"{OWN}-x7k2p", home.elsewhere)) as who:
        assert report(who, home, OWN).code == 403


def test_nor_has_it_with_a_right_that_somebody_gave_it(home: Home) -> None:
    stranger = f"{home.elsewhere}:{ACCOUNT}"
    role = f"--clusterrole={home.release.name}-tunefleet-attempt-status"
    given = f"--serviceaccount={stranger}"
    home.cluster.kubectl("create", "rolebinding", "given", role, given, "-n", home.namespace)
    try:
        with bearer(home.cluster, home.token(f"{OWN}-x7k2p", home.elsewhere)) as who:
            answer = report(who, home, OWN)
    finally:
        home.cluster.kubectl("delete", "rolebinding", "given", "-n", home.namespace)
    assert answer.code == 422
    assert f"{stranger} is of another namespace" in answer.message


def test_where_one_namespace_is_looked_after_alone_its_pods_may_report(home: Home) -> None:
    with (
        home.cluster.namespace() as only,
        installed(home.cluster, f"--set=onlyNamespace={only}"),
    ):
        asked = ("patch", "finetuneattempts/status", only)
        mine = f"system:serviceaccount:{only}:{ACCOUNT}"
        deadline = time.monotonic() + 30
        # The authorizer hears of a binding a moment after it is made.
        while not allowed(home, mine, *asked):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert not allowed(home, f"system:serviceaccount:{home.namespace}:{ACCOUNT}", *asked)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", OWN, {"spec": {"command": "CheckpointAndStop"}}),
        ("GET", OWN, None),
        ("GET", "", None),
        ("DELETE", OWN, None),
        ("POST", "", attempt("mine-0a1b2-1")),
    ],
    ids=["command itself", "read", "list", "delete", "make another"],
)
def test_a_pod_can_do_nothing_else_to_attempts(
    home: Home, method: str, path: str, body: object
) -> None:
    kind = MERGE if method == "PATCH" else "application/json"
    with bearer(home.cluster, home.token(f"{OWN}-x7k2p")) as who:
        assert who.call(method, home.attempt(path), body, kind).code == 403


def test_an_administrator_who_is_a_person_passes(home: Home) -> None:
    assert report(home.admin, home, OTHERS).code == 200


FORBIDDEN = [
    *((verb, "finetunejobs.tunefleet.dev") for verb in ("create", "patch", "update", "delete")),
    *((verb, "finetuneattempts.tunefleet.dev") for verb in ("update", "delete")),
    ("patch", "finetuneattempts.tunefleet.dev/status"),
    *((verb, "computeprofiles.tunefleet.dev") for verb in ("create", "patch", "delete")),
    *((verb, "jobs.batch") for verb in ("patch", "update")),
    *((verb, "rayjobs.ray.io") for verb in ("patch", "update")),
    *((verb, "pods") for verb in ("create", "delete", "patch")),
    ("create", "pods/exec"),
    *((verb, "secrets") for verb in ("get", "list", "watch", "create")),
    ("get", "configmaps"),
    ("impersonate", "users"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
]
"""What would be dear if the controller were taken over; what it may, another test compares."""


@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN, ids=map(" ".join, FORBIDDEN))
def test_the_controller_may_not(home: Home, verb: str, resource: str) -> None:
    assert not allowed(home, home.release.controller, verb, resource, home.namespace)


@pytest.mark.parametrize(
    ("may", "verb", "whose"),
    [
        (True, "create", "none yet"),
        (True, "get", "its own"),
        (True, "patch", "its own"),
        (False, "patch", "another release's"),
        (False, "delete", "its own"),
    ],
    ids=["makes its lease", "reads it", "renews it", "leaves others alone", "deletes none"],
)
def test_the_controller_and_leases(home: Home, may: bool, verb: str, whose: str) -> None:
    leases = {
        "none yet": "",
        "its own": home.release.lease,
        "another release's": replace(home.release, name="other").lease,
    }
    who, name = home.release.controller, leases[whose]
    assert allowed(home, who, verb, "leases", home.release.namespace, name) is may
    assert allowed(home, who, verb, "leases", home.namespace, name) is False


@pytest.mark.parametrize(
    ("role", "makes"), [("view", False), ("edit", True), ("admin", True)], ids=lambda value: value
)
def test_people_with_a_role_of_the_cluster(home: Home, role: str, makes: bool) -> None:
    who = f"someone-who-may-{role}"
    home.cluster.kubectl(
        "create", "rolebinding", who, f"--clusterrole={role}", f"--user={who}", "-n", home.namespace
    )
    deadline = time.monotonic() + 30
    # The controller-manager adds up the roles a moment after they are made.
    while not allowed(home, who, "list", "finetuneattempts", home.namespace):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert allowed(home, who, "get", "finetunejobs", home.namespace)
    for verb in ("create", "patch", "delete"):
        assert allowed(home, who, verb, "finetunejobs", home.namespace) is makes
        assert not allowed(home, who, verb, "finetuneattempts", home.namespace)
        assert not allowed(home, who, verb, "finetunejobs/status", home.namespace)
    # Refusals and conditions send them there; the kind is the whole cluster's, their role is not.
    home.cluster.kubectl("get", "computeprofiles", f"--as={who}")
    for verb in ("create", "patch", "delete"):
        assert not allowed(home, who, verb, "computeprofiles.tunefleet.dev", "")


def allowed(
    home: Home, user: str, verb: str, resource: str, namespace: str, name: str = ""
) -> bool:
    """What the authorizer says, asked by the administrator."""
    resource, _, sub = resource.partition("/")
    plural, _, group = resource.partition(".")
    if not group and plural.startswith("finetune"):
        group = GROUP
    if plural == "leases":
        group = "coordination.k8s.io"
    parts = user.split(":")
    groups = ["system:authenticated"]
    if user.startswith("system:serviceaccount:"):
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{parts[2]}"]
    asked = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": sub,
        "name": name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": asked},
    }
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    answer = home.admin.call("POST", reviews, body)
    assert answer.code == 201, answer.message
    return bool(answer.body["status"]["allowed"])  # type: ignore[index]
