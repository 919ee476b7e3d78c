"""ComputeProfile: what an administrator decides for a class of machines, once for many jobs.

Decides the shape of ``kind: ComputeProfile``: where pods run, what they find there, what a worker
gets unless its job says otherwise, and the limits of the jobs that name the profile. A limit is
tested by the API server when a job is made, and by the controller in the same words. Imports
``api`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunefleet.api.base import Check, DnsLabel, Name, Rule, Spec
from tunefleet.api.errors import Problem
from tunefleet.api.job import MEMORY_PATTERN, CredentialsSpec, FineTuneJob, ResourcesSpec
from tunefleet.api.support import all_locations

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
PREFIX_PATTERN = r"^[a-z0-9]+://[^\x00-\x20\x7f]*/$"
LABEL_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN, min_length=1, max_length=253)]
Prefix = Annotated[str, StringConstraints(pattern=PREFIX_PATTERN, min_length=1, max_length=1024)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, max_length=63)]

_NO_VALUE = Check(
    "self.operator != 'Exists' || !has(self.value)",
    "has no effect with operator: Exists",
    ("value",),
    "remove value, or set operator: Equal",
    (("operator",), ("value",)),
)


class TolerationSpec(Spec):
    """A taint that pods put up with (Kubernetes' words)."""

    checks = (_NO_VALUE,)
    key: Name | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        if self.operator == "Exists" and self.value is not None:
            yield _NO_VALUE.broken()


class AcceleratorSpec(Spec):
    """The GPU of a worker, as far as a plan depends on it."""

    name: Name
    memory: Annotated[str, StringConstraints(pattern=MEMORY_PATTERN)]
    bf16: bool = False


class CertificatesSpec(Spec):
    """Certificates that pods trust beside the public ones: a key of a ConfigMap of the job's
    namespace, which holds the whole bundle.
    """

    config_map: DnsLabel
    key: Name = "ca.crt"


class LimitsSpec(Spec):
    """What a job with the profile may ask for. A list that is not given limits nothing."""

    max_workers: Annotated[int, Field(gt=0, le=4096)] | None = None
    max_gpus: Annotated[int, Field(ge=0, le=4096)] | None = None
    max_gpus_per_namespace: Annotated[int, Field(ge=0, le=65536)] | None = None
    locations: Annotated[list[Prefix], Field(min_length=1, max_length=64)] | None = None
    namespaces: Annotated[list[DnsLabel], Field(min_length=1, max_length=256)] | None = None
    service_accounts: Annotated[list[DnsLabel], Field(min_length=1, max_length=64)] | None = None
    secrets: Annotated[list[DnsLabel], Field(max_length=64)] | None = None


class ProfileSpec(Spec):
    """Where and with what the pods of a job run.

    ``nodeSelector`` and ``tolerations`` place the workers; what prepares and the head of a Ray
    cluster do not need their machines. ``resources`` are a worker's unless its job says so.
    ``environment`` is for what a site needs, such as ``HTTPS_PROXY``.
    """

    image: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=512)] | None = None
    image_pull_secrets: Annotated[list[DnsLabel], Field(max_length=16)] = []
    node_selector: Annotated[dict[Name, LabelValue], Field(max_length=64)] = {}
    tolerations: Annotated[list[TolerationSpec], Field(max_length=64)] = []
    resources: ResourcesSpec = ResourcesSpec()
    accelerator: AcceleratorSpec | None = None
    environment: Annotated[dict[Variable, str], Field(max_length=64)] = {}
    certificates: CertificatesSpec | None = None
    limits: LimitsSpec = LimitsSpec()


_LIMITS = "params.spec.limits"
_URIS = (
    "variables.locations.filter(each, !{limits}.locations.exists(start, each.startsWith(start)))"
)
_OUTSIDE = _URIS.format(limits=_LIMITS)

WORKERS = Check(
    f"!has({_LIMITS}.maxWorkers) || variables.workers <= {_LIMITS}.maxWorkers",
    "asks for {asked} workers; the profile {profile} allows {most}",
    ("spec", "workers"),
    "ask for fewer, or for another profile",
    values={
        "asked": "string(variables.workers)",
        "profile": "params.metadata.name",
        "most": f"string({_LIMITS}.maxWorkers)",
    },
)
GPUS = Check(
    f"!has({_LIMITS}.maxGpus) || variables.gpus <= {_LIMITS}.maxGpus",
    "asks for {asked} GPUs; the profile {profile} allows {most}",
    ("spec", "workers"),
    "ask for fewer workers, or for another profile",
    values={
        "asked": "string(variables.gpus)",
        "profile": "params.metadata.name",
        "most": f"string({_LIMITS}.maxGpus)",
    },
)
NAMESPACE_GPUS = Check(
    f"!has({_LIMITS}.maxGpusPerNamespace) || variables.gpus <= {_LIMITS}.maxGpusPerNamespace",
    "asks for {asked} GPUs; the profile {profile} allows {most} to all jobs of a namespace",
    ("spec", "workers"),
    "ask for fewer workers, or for another profile",
    values={
        "asked": "string(variables.gpus)",
        "profile": "params.metadata.name",
        "most": f"string({_LIMITS}.maxGpusPerNamespace)",
    },
)
LOCATIONS = Check(
    f"!has({_LIMITS}.locations) || {_OUTSIDE}.size() == 0",
    "`{uri}` is not among the locations of the profile {profile}",
    ("spec",),
    "use one that begins with {allowed}",
    values={
        "uri": f"{_OUTSIDE}[0]",
        "profile": "params.metadata.name",
        "allowed": f"{_LIMITS}.locations.join(' or ')",
    },
)
NAMESPACES = Check(
    f"!has({_LIMITS}.namespaces) || object.metadata.namespace in {_LIMITS}.namespaces",
    "the profile {profile} is not for jobs of the namespace {namespace}",
    ("spec", "profile"),
    "name another profile; `kubectl get computeprofiles` lists them",
    values={"profile": "params.metadata.name", "namespace": "object.metadata.namespace"},
)
ACCOUNTS = Check(
    f"!has({_LIMITS}.serviceAccounts) || variables.account in {_LIMITS}.serviceAccounts",
    "the profile {profile} does not allow the service account {account}",
    ("spec", "credentials", "serviceAccountName"),
    "name one of {allowed}",
    values={
        "profile": "params.metadata.name",
        "account": "variables.account",
        "allowed": f"{_LIMITS}.serviceAccounts.join(', ')",
    },
)
_NOT_GIVEN = f"variables.secrets.filter(each, !(each in {_LIMITS}.secrets))"
SECRETS = Check(
    f"!has({_LIMITS}.secrets) || {_NOT_GIVEN}.size() == 0",
    "the profile {profile} does not allow the secret {secret}",
    ("spec", "credentials", "secretRefs"),
    "remove it, or have it allowed",
    values={"profile": "params.metadata.name", "secret": f"{_NOT_GIVEN}[0]"},
)
LIMIT_CHECKS = (NAMESPACES, WORKERS, GPUS, NAMESPACE_GPUS, LOCATIONS, ACCOUNTS, SECRETS)
"""What an API server tests, with ``params`` for the profile and the variables below."""

DEFAULT_ACCOUNT = "default"
"""The service account of a job that names none."""

_TEXTS = ("model.uri", "data.train.uri", "checkpoints.uri")
_DEEPER = (
    ("model.from", "model.from.bundle"),
    ("data.validation", "data.validation.uri"),
    ("data.test", "data.test.uri"),
)
_RESOURCES = "params.spec.resources"
POLICY_VARIABLES = {
    "applies": "has(object.spec.profile) && object.spec.profile == params.metadata.name",
    "workers": (
        "has(object.spec.workers.max) ? object.spec.workers.max "
        ": has(object.spec.workers.count) ? object.spec.workers.count : 1"
    ),
    "gpus": (
        "variables.workers * (has(object.spec.workers.resources.gpu) "
        f"? object.spec.workers.resources.gpu : has({_RESOURCES}.gpu) ? {_RESOURCES}.gpu : 0)"
    ),
    "account": (
        "has(object.spec.credentials) && has(object.spec.credentials.serviceAccountName) "
        f"? object.spec.credentials.serviceAccountName : '{DEFAULT_ACCOUNT}'"
    ),
    "secrets": (
        "has(object.spec.credentials) && has(object.spec.credentials.secretRefs) "
        "? object.spec.credentials.secretRefs : []"
    ),
    "locations": "["
    + ", ".join(
        [f"has(object.spec.{text}) ? object.spec.{text} : ''" for text in _TEXTS]
        + [
            f"has(object.spec.{block}) && has(object.spec.{text}) ? object.spec.{text} : ''"
            for block, text in _DEEPER
        ]
    )
    + "].filter(each, each != '')",
}
"""What the checks above read of a job."""


def with_defaults(job: FineTuneJob, profile: ProfileSpec) -> FineTuneJob:
    """The job with the profile's resources where it asks for none of its own."""
    asked = job.spec.workers.resources
    given = {
        name: getattr(asked if getattr(asked, name) is not None else profile.resources, name)
        for name in ResourcesSpec.model_fields
    }
    workers = job.spec.workers.model_copy(update={"resources": ResourcesSpec(**given)})
    spec = job.spec.model_copy(update={"workers": workers})
    return job.model_copy(update={"spec": spec})


def beyond_limits(job: FineTuneJob, name: str, profile: ProfileSpec) -> list[Problem]:
    """What a job asks for that its profile does not allow, in the API server's words."""
    return [
        Problem(rule.message, ".".join(map(str, rule.at)), rule.remedy)
        for rule in _beyond(with_defaults(job, profile), name, profile.limits)
    ]


def waits_for_gpus(job: FineTuneJob, profile: ProfileSpec, workers: int, in_use: int) -> str:
    """Why a job within its limits cannot begin to train with so many workers; "" when it can.

    ``in_use``: GPUs of the other jobs of its namespace that have the profile. The API server
    cannot see those, so that only the controller holds a job to what they leave.
    """
    most = profile.limits.max_gpus_per_namespace
    gpus = workers * _gpus_each(with_defaults(job, profile))
    if most is None or not gpus or gpus + in_use <= most:
        return ""
    return (
        f"waiting for {gpus} GPUs: the profile {job.spec.profile} allows {most} to all jobs of the "
        f"namespace {job.metadata.namespace}, and others have {in_use}"
    )


def _gpus_each(job: FineTuneJob) -> int:
    return job.spec.workers.resources.gpu or 0


def _beyond(job: FineTuneJob, name: str, limits: LimitsSpec) -> Iterator[Rule]:
    namespace, workers = job.metadata.namespace, job.spec.workers.most
    gpus, together = workers * _gpus_each(job), limits.max_gpus_per_namespace
    if limits.namespaces is not None and namespace not in limits.namespaces:
        yield NAMESPACES.broken(profile=name, namespace=namespace)
    if limits.max_workers is not None and workers > limits.max_workers:
        yield WORKERS.broken(asked=str(workers), profile=name, most=str(limits.max_workers))
    if limits.max_gpus is not None and gpus > limits.max_gpus:
        yield GPUS.broken(asked=str(gpus), profile=name, most=str(limits.max_gpus))
    if together is not None and gpus > together:
        yield NAMESPACE_GPUS.broken(asked=str(gpus), profile=name, most=str(together))
    allowed = tuple(limits.locations) if limits.locations is not None else ("",)
    outside = [uri for _, uri in all_locations(job.spec) if isinstance(uri, str)]
    outside = [uri for uri in outside if not uri.startswith(allowed)]
    if outside:
        yield LOCATIONS.broken(uri=outside[0], profile=name, allowed=" or ".join(allowed))
    yield from _borrowed(job, name, limits)


def _borrowed(job: FineTuneJob, name: str, limits: LimitsSpec) -> Iterator[Rule]:
    """Rights that a job would borrow."""
    given = job.spec.credentials or CredentialsSpec()
    account, accounts = given.service_account_name or DEFAULT_ACCOUNT, limits.service_accounts
    if accounts is not None and account not in accounts:
        yield ACCOUNTS.broken(profile=name, account=account, allowed=", ".join(accounts))
    strange = [each for each in given.secret_refs if each not in (limits.secrets or ())]
    if limits.secrets is not None and strange:
        yield SECRETS.broken(profile=name, secret=strange[0])


class ProfileMetadata(Spec):
    """The part of a profile's metadata that is looked at."""

    name: DnsLabel


class ComputeProfile(Spec):
    """One class of machines and its rules, for the whole cluster."""

    api_version: Literal["tunefleet.dev/v1alpha1"]
    kind: Literal["ComputeProfile"]
    metadata: ProfileMetadata
    spec: ProfileSpec
