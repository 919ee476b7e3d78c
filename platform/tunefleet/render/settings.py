"""What an administrator decides once for every job: the image and how pods end.

Pure; the controller takes it from its flags and hands it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunefleet.api.profile import ProfileSpec


@dataclass(frozen=True, slots=True)
class Runtime:
    """The image that all stages run, and the version of Ray in it.

    ``grace_seconds`` is how long a pod that has to go may take to save; ``cache_bytes`` bounds
    the volume that holds tokens and models in each pod. The rest is what a profile adds:
    ``placement`` is for workers alone, ``certificates`` a ConfigMap and its key.
    """

    image: str
    ray_version: str = "2.60.0"
    pull_policy: str = "IfNotPresent"
    grace_seconds: int = 120
    cache_bytes: int = 64 << 30
    shared_memory_bytes: int = 2 << 30
    pull_secrets: tuple[str, ...] = ()
    placement: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    certificates: tuple[str, str] | None = None

    def under(self, profile: ProfileSpec | None) -> Runtime:
        """The same for a job with this profile."""
        if profile is None:
            return self
        tolerations = [
            each.model_dump(mode="json", by_alias=True, exclude_none=True)
            for each in profile.tolerations
        ]
        given = profile.certificates
        return replace(
            self,
            image=profile.image or self.image,
            pull_secrets=tuple(profile.image_pull_secrets),
            placement={
                **({"nodeSelector": dict(profile.node_selector)} if profile.node_selector else {}),
                **({"tolerations": tolerations} if tolerations else {}),
            },
            environment=dict(profile.environment),
            certificates=(given.config_map, given.key) if given is not None else None,
        )
