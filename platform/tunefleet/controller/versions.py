"""Which Kubernetes and which KubeRay are enough, and what is said where one is not.

Decides the oldest versions that are promised, and by what an older one is known: Kubernetes by
its own word, KubeRay by a field that every RayJob of ours has and that its definition lacks.
Imports ``kube``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunefleet.kube.access import Call
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Resource

OLDEST_KUBERNETES = (1, 31)
OLDEST_KUBERAY = "1.6"

_VERSION = Resource("", "", "version", "Version")
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')


class Kubernetes:
    """The API server's version: asked for until it is one that is enough, which it then stays."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._enough = False

    async def too_old(self) -> str:
        """What is wrong with it, and what to do; "" where nothing is.

        Raises :class:`~tunefleet.kube.errors.ApiError` when the server does not answer.
        """
        if self._enough:
            return ""
        try:
            said = await self._client.read("get", _VERSION, Call("GET", "/version", {}))
        except ApiError as error:
            if error.forbidden or error.not_found:
                return ""
            raise
        told = kubernetes_too_old(said)
        self._enough = not told
        return told


def kubernetes_too_old(said: Mapping[str, object]) -> str:
    """What is wrong with the version that a server says it has; "" for one that is enough.

    A version that says nothing we understand is taken for enough.
    """
    major, minor = (_number(said.get(part)) for part in ("major", "minor"))
    if major is None or minor is None or (major, minor) >= OLDEST_KUBERNETES:
        return ""
    oldest = ".".join(map(str, OLDEST_KUBERNETES))
    return f"this cluster is Kubernetes {major}.{minor}: upgrade it to {oldest} or newer"


def kuberay_too_old(refusal: str) -> str:
    """What is wrong where a RayJob was refused with these words; "" for another refusal."""
    unknown = _UNKNOWN.findall(refusal)
    if not unknown:
        return ""
    return (
        f"this cluster's KubeRay does not know a RayJob's {' and '.join(unknown)}: upgrade its "
        f"operator and its definitions to {OLDEST_KUBERAY} or newer"
    )


def _number(said: object) -> int | None:
    """The number that a part of a version begins with: some clouds say ``30+``."""
    found = re.match(r"\d+", said) if isinstance(said, str) else None
    return int(found[0]) if found else None
