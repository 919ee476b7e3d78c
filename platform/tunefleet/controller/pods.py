"""Which pods belong to an attempt, kept as they come and go.

Decides by the attempt's label: pods of a RayCluster are owned by somebody else. Imports
``controller.seen`` and ``kube``.
"""

from __future__ import annotations

from tunefleet.controller.seen import PodSeen
from tunefleet.kube.cache import Cache


class PodsOfAttempts:
    """Names of pods by namespace and attempt. Told of every change of what ``pods`` keeps."""

    def __init__(self, pods: Cache[PodSeen]) -> None:
        self._pods = pods
        self._names: dict[tuple[str, str], set[str]] = {}

    def changed(self, old: PodSeen | None, new: PodSeen | None) -> None:
        """A pod is new, different or gone."""
        if old is not None:
            place = (old.namespace, old.attempt)
            found = self._names.get(place, set())
            found.discard(old.name)
            if not found:
                self._names.pop(place, None)
        if new is not None and new.attempt:
            self._names.setdefault((new.namespace, new.attempt), set()).add(new.name)

    def of(self, namespace: str, attempt: str) -> tuple[PodSeen, ...]:
        """An attempt's pods by name."""
        names = sorted(self._names.get((namespace, attempt), ()))
        found = (self._pods.get(namespace, name) for name in names)
        return tuple(pod for pod in found if pod is not None)
