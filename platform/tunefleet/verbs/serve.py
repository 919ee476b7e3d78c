"""``serve`` and ``serving``: a bundle behind HTTP on this machine.

Decides what is refused before anything is started (a gate that was not passed, an address
that cannot be used) and how a service is stopped from a terminal. Imports ``api``, records of
``evaluate``, ``serve.settings``; ray only below ``serve.launch``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunefleet.api.errors import ModelError, SpecError
from tunefleet.serve.settings import Endpoint, Limits, ServiceSettings
from tunefleet.verbs.target import Target, find_bundle


def serve(
    target: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int = 1,
    device: str = "auto",
    ignore_gate: bool = False,
    limits: Limits | None = None,
    ready: Callable[[Endpoint], None] | None = None,
) -> int:
    """Serve a bundle until Ctrl-C or SIGTERM; returns the exit code (0).

    ``target`` is a bundle's folder, a run's folder or a job file; port 0 takes a free one.
    ``ready`` is called once, when requests are answered. Answers under way are finished
    before it ends; a second signal ends at once.

    Raises ``ModelError`` (the bundle or its gate), ``MachineError`` (the port) or
    ``RunError`` (the service could not start, or was lost).
    """
    from tunefleet.serve.launch import free_port, run_service

    settings = _settings(
        find_bundle(target),
        host=host,
        port=port,
        replicas=replicas,
        device=device,
        ignore_gate=ignore_gate,
        limits=limits,
    )
    if settings.port == 0:
        settings = settings.model_copy(update={"port": free_port(host)})
    run_service(settings, threading.Event(), ready or (lambda endpoint: None))
    return 0


@contextmanager
def serving(
    target: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    replicas: int = 1,
    device: str = "auto",
    ignore_gate: bool = False,
    limits: Limits | None = None,
) -> Iterator[Endpoint]:
    """A service in the background for the duration of a block.

    >>> with serving("job.yaml") as endpoint:       # doctest: +SKIP
    ...     httpx.post(f"{endpoint.url}/v1/predict", json={"text": "What a film!"})
    """
    from tunefleet.serve.background import background

    settings = _settings(
        find_bundle(target),
        host=host,
        port=port,
        replicas=replicas,
        device=device,
        ignore_gate=ignore_gate,
        limits=limits,
    )
    with background(settings) as endpoint:
        yield endpoint


def _settings(
    found: Target,
    *,
    host: str,
    port: int,
    replicas: int,
    device: str,
    ignore_gate: bool,
    limits: Limits | None,
) -> ServiceSettings:
    if not 0 <= port <= 65_535:
        raise SpecError(f"port {port} does not exist", remedy="choose one of 1024 to 65535")
    if replicas < 1:
        raise SpecError("a service needs at least one replica")
    if not ignore_gate:
        _check_gate(found)
    return ServiceSettings(
        bundle=str(found.folder.resolve()),
        host=host,
        port=port,
        replicas=replicas,
        device=device,
        metrics=found.metrics,
        limits=limits or Limits(),
    )


def _check_gate(target: Target) -> None:
    gate = target.result.gate if target.result is not None else None
    if gate is not None and not gate.passed:
        raise ModelError(
            f"{target.folder}: the gate was not passed: {gate.metric} is {gate.value:.4g}, "
            f"asked for was {gate.bound}",
            remedy="train longer or on better data; --ignore-gate serves it all the same",
        )
