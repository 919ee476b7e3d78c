"""The chart by the real helm: what it renders is taken by a real API server, bad values are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import pytest
from ruamel.yaml import YAML

from tests.cluster.api import Api, administrator
from tests.cluster.installed import CHART, rendered, run
from tests.testbed.clusters import Cluster
from tests.unit.render.test_profiles import OURS, pods
from tunefleet.api.crd.resources import KINDS
from tunefleet.api.profile import CertificatesSpec, ProfileSpec
from tunefleet.controller.main import flags

Manifest = Mapping[str, object]

CHOICES = {
    "as it comes": (),
    "one namespace alone": ("--set=onlyNamespace=team-a",),
    "one namespace alone, a profile required": (
        "--set=onlyNamespace=team-a",
        "--set=admission.profileRequired=true",
    ),
    "no namespaces yet": ("--set-json=jobNamespaces=[]",),
    "with everything": (
        "--set=admission.exempt={system:serviceaccount:velero:velero}",
        "--set=rbac.ownerReferencesPermissionEnforcement=true",
        "--set=imagePullSecrets[0].name=registry",
        "--set=controller.priorityClassName=system-cluster-critical",
        "--set=networkPolicies.metricsFrom={monitoring}",
        "--set=networkPolicies.egress={10.0.0.0/8,203.0.113.7/32}",
        "--set=controller.nodeSelector.disk=ssd",
        "--set=controller.tolerations[0].operator=Exists",
        "--set=controller.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution=null",
    ),
    "one replica, nothing added up": (
        "--set=controller.replicas=1",
        "--set=rbac.aggregate=false",
        "--set=rbac.readProfiles=false",
    ),
}


def manifests(
    *options: str, release: str = "tunefleet", namespace: str = "tunefleet-system"
) -> list[Manifest]:
    text = rendered(*options, release=release, namespace=namespace)
    return [each for each in YAML(typ="safe").load_all(text) if each]


def one(kind: str, found: list[Manifest], end: str = "") -> Manifest:
    (manifest,) = [
        each
        for each in found
        if each["kind"] == kind and str(cast(Manifest, each["metadata"])["name"]).endswith(end)
    ]
    return manifest


def arguments(found: list[Manifest]) -> list[str]:
    """What the controller is started with."""
    spec = cast(Manifest, one("Deployment", found)["spec"])
    pod = cast(Manifest, cast(Manifest, spec["template"])["spec"])
    return cast("list[str]", cast("list[Manifest]", pod["containers"])[0]["args"])


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    with administrator(cluster) as found:
        yield found


@pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)
def test_a_server_takes_all_that_is_rendered(
    cluster: Cluster, namespace: str, options: tuple[str, ...]
) -> None:
    text = rendered(*options, namespace=namespace).replace("team-a", namespace)
    text = text.replace("namespace: default", f"namespace: {namespace}")
    applied = cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", "--filename", "-", stdin=text
    )
    assert "deployment.apps/tunefleet-controller serverside-applied" in applied
    assert "validatingadmissionpolicybinding" in applied


def test_the_controllers_pod_is_at_home_in_a_restricted_namespace(
    cluster: Cluster, api: Api, namespace: str
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    spec = cast(Manifest, one("Deployment", manifests())["spec"])
    template = cast(Manifest, spec["template"])
    body = {"metadata": {"name": "controller"}, "spec": template["spec"]}
    # Admission asks for the service account before it looks at the pod's security.
    cluster.kubectl("create", "serviceaccount", "tunefleet-controller", "--namespace", namespace)
    where = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    assert api.call("POST", where, body).code == 201
    container = cast("list[Manifest]", cast(Manifest, body["spec"])["containers"])[0]
    loose = {**container, "securityContext": {}}
    body["spec"] = {**cast(Manifest, body["spec"]), "containers": [loose]}
    assert "violates PodSecurity" in api.call("POST", where, body).message


@pytest.mark.parametrize("pod", ["prepare", "submits", "head", "workers"])
def test_a_jobs_pods_are_at_home_in_a_restricted_namespace(
    cluster: Cluster, api: Api, namespace: str, pod: str
) -> None:
    cluster.kubectl(
        "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", namespace)
    found = pods(OURS.under(ProfileSpec(certificates=CertificatesSpec(config_map="site-ca"))))
    body = {"metadata": {"name": pod}, "spec": found[pod]}
    answer = api.call("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)
    assert answer.code == 201, answer.message


def test_one_namespace_alone_gives_no_right_in_another() -> None:
    found = manifests(*CHOICES["one namespace alone"])
    binding = one("RoleBinding", found, "tunefleet-controller")
    assert cast(Manifest, binding["metadata"])["namespace"] == "team-a"
    account = "tunefleet-controller"
    whole = [each for each in found if each["kind"] == "ClusterRoleBinding"]
    (given,) = [each for each in whole if account in str(each["subjects"])]
    assert cast(Manifest, given["metadata"])["name"] == "tunefleet-controller-profiles"
    deployment = str(one("Deployment", found))
    assert "--namespace=team-a" in deployment
    assert "--namespace=" not in str(one("Deployment", manifests()))


@pytest.mark.parametrize(
    "others",
    [(), ("--set=jobNamespaces={team-b,team-c}",)],
    ids=["alone", "whatever else is named"],
)
def test_in_the_one_namespace_pods_may_report_and_are_kept_apart(others: tuple[str, ...]) -> None:
    found = manifests(*CHOICES["one namespace alone"], *others)
    binding = one("RoleBinding", found, "-attempt-status")
    for each in (binding, one("NetworkPolicy", found)):
        assert cast(Manifest, each["metadata"])["namespace"] == "team-a"
    (subject,) = cast("list[Manifest]", binding["subjects"])
    assert subject["name"] == "system:serviceaccounts:team-a"


def test_everybody_sees_profiles_unless_that_is_left_to_others() -> None:
    found = manifests()
    role = one("ClusterRole", found, "-read-profiles")
    assert cast("list[Manifest]", role["rules"])[0]["verbs"] == ["get", "list", "watch"]
    binding = one("ClusterRoleBinding", found, "-read-profiles")
    (subject,) = cast("list[Manifest]", binding["subjects"])
    assert subject["name"] == "system:authenticated"
    without = manifests("--set=rbac.readProfiles=false")
    assert len(without) == len(found) - 2
    assert "read-profiles" not in str(without)


def test_what_is_said_of_profiles_binds_the_jobs_of_the_one_namespace_alone() -> None:
    required = "--set=admission.profileRequired=true"
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}
    for options, where in (((), None), (CHOICES["one namespace alone"], here)):
        found = manifests(required, *options)
        for end in ("-profile-limits", "-profile-required"):
            binding = one("ValidatingAdmissionPolicyBinding", found, end)
            assert cast(Manifest, binding["spec"]).get("matchResources") == where
        # Rights may be given anywhere.
        reports = one("ValidatingAdmissionPolicyBinding", found, "-attempt-status")
        assert "matchResources" not in cast(Manifest, reports["spec"])


def test_two_releases_have_no_object_in_common() -> None:
    both = [
        (each["kind"], metadata.get("namespace"), metadata["name"])
        for team in ("team-a", "team-b")
        for each in manifests(
            f"--set=onlyNamespace={team}", "--set=admission.profileRequired=true", release=team
        )
        for metadata in [cast(Manifest, each["metadata"])]
    ]
    assert len(set(both)) == len(both)


def test_two_releases_in_one_namespace_lead_under_leases_of_their_own() -> None:
    # With one Lease for both, whoever comes second never looks after its own namespace.
    leases = set()
    for release in ("team-a", "team-b"):
        found = manifests(release=release)
        given = flags().parse_args(arguments(found))
        rules = cast("list[Manifest]", one("Role", found, "-election")["rules"])
        named = [rule["resourceNames"] for rule in rules if "resourceNames" in rule]
        assert named == [[given.lease_name]]
        leases.add((given.lease_namespace, given.lease_name))
    assert len(leases) == 2


def test_replicas_share_the_same_labels_as_their_service() -> None:
    found = manifests()
    deployment = cast(Manifest, one("Deployment", found)["spec"])
    selector = cast(Manifest, deployment["selector"])["matchLabels"]
    template = cast(Manifest, deployment["template"])
    labels = cast("Mapping[str, str]", cast(Manifest, template["metadata"])["labels"])
    assert cast(Manifest, one("Service", found)["spec"])["selector"] == selector
    assert set(cast("Mapping[str, str]", selector).items()) <= set(labels.items())


def test_one_replica_has_no_disruption_budget_that_would_stop_a_drain() -> None:
    alone = manifests("--set=controller.replicas=1")
    assert "PodDisruptionBudget" not in {each["kind"] for each in alone}
    assert "PodDisruptionBudget" in {each["kind"] for each in manifests()}


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("controler.replicas=1", "controler"),
        ("controller.replicas=0", "replicas"),
        ("controller.pullPolicy=Sometimes", "pullPolicy"),
        ("runtime.image=", "image"),
        ("runtime.rayVersion=latest", "rayVersion"),
        ("runtime.graceSeconds=0", "graceSeconds"),
        ("jobNamespaces={Team_A}", "jobNamespaces"),
        ("jobNamespaces={a,a}", "jobNamespaces"),
        ("onlyNamespace=A", "onlyNamespace"),
        ("rbac.readProfiles=everybody", "readProfiles"),
        ("admission.exempt={everybody}", "exempt"),
        ("networkPolicies.egress={everywhere}", "egress"),
    ],
    ids=lambda value: value,
)
def test_a_wrong_value_is_refused_with_its_field(option: str, field: str) -> None:
    done = run("template", "t", str(CHART), f"--set={option}")
    assert done.returncode != 0
    assert field in done.stderr


def test_helm_finds_nothing_to_say_against_the_chart() -> None:
    done = run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    shown = run("show", "crds", str(CHART))
    assert shown.stdout.count("kind: CustomResourceDefinition") == len(KINDS)
