"""Which pods belong to an attempt, kept as they come and go.

Decides by the attempt's label: pods of a RayCluster are owned by somebody else. Imports
``controller.seen``.
"""

from __future__ import annotations

from tunefleet.controller.seen import PodSeen


class PodsOfAttempts:
    """Pods by namespace and attempt. Told of every change by the pods' reflector."""

    def __init__(self) -> None:
        self._pods: dict[tuple[str, str], dict[str, PodSeen]] = {}

    def changed(self, old: PodSeen | None, new: PodSeen | None) -> None:
        """A pod is new, different or gone."""
        if old is not None:
            place = (old.namespace, old.attempt)
            found = self._pods.get(place, {})
            found.pop(old.name, None)
            if not found:
                self._pods.pop(place, None)
        if new is not None and new.attempt:
            self._pods.setdefault((new.namespace, new.attempt), {})[new.name] = new

    def of(self, namespace: str, attempt: str) -> tuple[PodSeen, ...]:
        """An attempt's pods by name."""
        found = self._pods.get((namespace, attempt), {})
        return tuple(found[name] for name in sorted(found))
