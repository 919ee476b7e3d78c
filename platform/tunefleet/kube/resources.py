"""Kinds of the API and where their objects are found.

Decides paths alone. Imports the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

Manifest = Mapping[str, object]
"""An object as JSON values."""

Document = dict[str, object]
"""An object as the server answered it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of one version. The core group is the empty one."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What an object's ``apiVersion`` says."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """The path of an object, of one of its subresources, or of all of a namespace.

        Without a namespace: of all namespaces. A kind that has no namespaces ignores it.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            if self.namespaced and not namespace:
                raise ValueError(f"{self.kind} {name} has a namespace; none was given")
            parts.append(name)
        if sub is not None:
            parts.append(sub)
        return "/" + "/".join(quote(part, safe="") for part in parts)


PODS = Resource("", "v1", "pods", "Pod")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
