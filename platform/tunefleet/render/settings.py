"""What an administrator decides once for every job: the image and how pods end.

Pure; the controller reads it from its environment and hands it down.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Runtime:
    """The image that all stages run, and the version of Ray in it.

    ``grace_seconds`` is how long a pod that has to go may take to save; ``cache_bytes`` bounds
    the volume that holds tokens and models in each pod.
    """

    image: str
    ray_version: str = "2.60.0"
    pull_policy: str = "IfNotPresent"
    grace_seconds: int = 120
    cache_bytes: int = 64 << 30
    shared_memory_bytes: int = 2 << 30
