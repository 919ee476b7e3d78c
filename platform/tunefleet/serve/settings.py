"""What a service is told: where it listens, what it may be asked, how long it may take.

Decides the limits that keep a service answering when it is asked too much. Imports ``api``
alone, so that the command line can show them without torch or ray.
"""

from __future__ import annotations

from tunefleet.api.base import Document

APPLICATION = "tunefleet"
"""The name of the application inside Ray Serve."""

FAILURE_FILE = "failure.json"
"""Where a replica that cannot start leaves its reason, in the service's scratch folder."""


class Limits(Document):
    """What one request may be, and how many may wait.

    ``waiting_items`` bounds what a replica has accepted and not yet answered; beyond it a
    request is told to come back (503 with Retry-After) instead of waiting for its deadline.
    """

    body_bytes: int = 1_048_576
    items: int = 64
    text_characters: int = 100_000
    waiting_items: int = 256
    timeout_seconds: float = 30.0
    batch_items: int = 16
    batch_wait_seconds: float = 0.002
    drain_seconds: float = 20.0


class ServiceSettings(Document):
    """One service: a bundle's folder, an address, replicas and limits.

    ``threads`` are the CPUs of one replica (None: the machine's, shared by the replicas).
    ``metrics`` are what the bundle reached on held-out rows, where its run is known.
    """

    bundle: str
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    threads: int | None = None
    device: str = "auto"
    start_seconds: float = 300.0
    metrics: dict[str, float] = {}
    limits: Limits = Limits()


class Endpoint(Document):
    """A service that is ready: where it is and what it answers."""

    url: str
    task: str
    digest: str
    replicas: int
    seconds: float
