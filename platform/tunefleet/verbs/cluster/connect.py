"""The way from a command to the API server, and every refusal in words that a user can act on.

Decides which cluster and namespace are meant and how an API error is told. Imports ``kube``
inside functions, so that a machine without its packages is told which ones to install.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tunefleet.api.errors import ClusterError, MachineError, Problem

if TYPE_CHECKING:
    from tunefleet.kube.client import Client
    from tunefleet.kube.errors import ApiError

Found = TypeVar("Found")

MANAGER = "tunefleet-cli"
"""By which name the API server knows whose fields these are."""

_NO_CLUSTER = "name a kubeconfig with --kubeconfig or KUBECONFIG; `kubectl cluster-info` tries it"
_NO_KIND = "have an administrator install the chart: helm install tunefleet helm/tunefleet"


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster and namespace are meant; None: those of the kubeconfig's current context."""

    kubeconfig: Path | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection, and the namespace that is meant."""

    client: Client
    namespace: str
    kubeconfig: Path | None = None


def on(where: Where, work: Callable[[Cluster], Awaitable[Found]]) -> Found:
    """Connect, do some work, and end the connection; raises ``ClusterError``."""
    return asyncio.run(_on(where, work))


async def _on(where: Where, work: Callable[[Cluster], Awaitable[Found]]) -> Found:
    try:
        from tunefleet.kube.access import NoCluster
        from tunefleet.kube.client import Client
        from tunefleet.kube.errors import ApiError
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{error.name} is not installed, which talks to a cluster",
            remedy="pip install 'tunefleet[control]'",
        ) from None
    if where.kubeconfig is not None and not where.kubeconfig.is_file():
        raise ClusterError(f"there is no file {where.kubeconfig}", remedy=_NO_CLUSTER)
    try:
        client = await Client.connect(where.kubeconfig, user_agent=MANAGER)
    except NoCluster as error:
        raise ClusterError(str(error).partition(": set ")[0], remedy=_NO_CLUSTER) from None
    async with client:
        try:
            namespace = where.namespace or client.namespace
            return await work(Cluster(client, namespace, where.kubeconfig))
        except ApiError as error:
            raise told(error, client.server) from None


def told(error: ApiError, server: str) -> ClusterError:
    """An API error as a user is told it."""
    if error.unreachable:
        return ClusterError(f"no answer from {server} ({error.message})", remedy=_NO_CLUSTER)
    if error.unauthorized:
        remedy = "log in again; `kubectl auth whoami` says who you are"
        return ClusterError(f"{server} does not know who asks", remedy=remedy)
    if error.forbidden:
        remedy = "ask for the role `edit` (or `view`, to look) in this namespace"
        return ClusterError(f"the cluster refuses: {error.message}", remedy=remedy)
    if error.not_found and not error.details.get("name"):
        return ClusterError("this cluster knows no FineTuneJob", remedy=_NO_KIND)
    problems = list(_problems(error.details))
    if error.invalid and problems:
        return ClusterError("the cluster refuses the job:", problems=problems)
    return ClusterError(f"the cluster refuses: {error.message or error.reason}")


def _problems(details: Mapping[str, object]) -> list[Problem]:
    """The causes of a validation, in the words of the definition: ``what → remedy``."""
    causes = details.get("causes")
    problems = []
    for cause in causes if isinstance(causes, list) else []:
        if isinstance(cause, dict):
            message, _, remedy = _sentence(str(cause.get("message", ""))).partition(" → ")
            problems.append(Problem(message, str(cause.get("field", "")), remedy))
    return problems


def _sentence(message: str) -> str:
    """Without the quotation of the whole object that the server begins with."""
    return message.partition('": ')[2] if message.startswith('Invalid value: "') else message
