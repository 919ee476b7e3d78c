"""The application inside a replica: one opened bundle, its items batched, under Ray Serve.

Decides what is batched together, which thread computes, and when a replica is ready (after
it has reproduced its golden batch). The HTTP interface is ``routes``'. Imports ray.serve,
fastapi, ``evaluate`` and this package.
"""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from tunefleet.api.errors import TunefleetError
from tunefleet.evaluate.inputs import InputError
from tunefleet.evaluate.predictor import Answer, Predictor
from tunefleet.serve.routes import Ask, Service, build_routes
from tunefleet.serve.schema import Item
from tunefleet.serve.settings import FAILURE_FILE, ServiceSettings


class Replica:
    """One replica. Its constructor raises when the bundle is not what was evaluated."""

    def __init__(self, settings_json: str, threads: int, scratch: str) -> None:
        self._settings = ServiceSettings.from_json(settings_json)
        limits = self._settings.limits
        try:
            self._executor = _compute_thread(threads)
            opened = self._executor.submit(
                Predictor.open, self._settings.bundle, device=self._settings.device
            )
            self._predictor = opened.result()
        except BaseException as error:
            report_failure(Path(scratch), error)
            raise
        batch = cast("Any", self.answer)
        batch.set_max_batch_size(limits.batch_items)
        batch.set_batch_wait_timeout_s(limits.batch_wait_seconds)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes; Ray Serve asks for them when the constructor is through."""
        # Called with one item, a batched method answers with that item's part of the list.
        ask = cast("Ask", self.answer)
        return build_routes(Service(self._settings, self._predictor, ask))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002, max_concurrent_batches=1)
    async def answer(self, items: list[Item]) -> list[Answer | InputError]:
        """Answers of items of one or several requests; a bad one's error in its place."""
        loop = asyncio.get_running_loop()
        # The model computes in its own thread, so that health checks and refusals stay quick.
        return await loop.run_in_executor(
            self._executor, self._predictor.answer, items, self._settings.limits.batch_items
        )


def report_failure(scratch: Path, error: BaseException) -> None:
    """Leave the reason of a failed start where the one who waits for it looks."""
    record = {"kind": type(error).__name__, "message": str(error), "remedy": ""}
    if isinstance(error, TunefleetError):
        record |= {"message": error.message, "remedy": error.remedy}
    draft = scratch / f"{FAILURE_FILE}.{os.getpid()}"
    draft.write_text(json.dumps(record), encoding="utf-8")
    os.replace(draft, scratch / FAILURE_FILE)


def _compute_thread(threads: int) -> ThreadPoolExecutor:
    def prepare() -> None:
        import torch

        # The number of OpenMP threads belongs to the thread that asks for it.
        torch.set_num_threads(threads)

    return ThreadPoolExecutor(1, thread_name_prefix="model", initializer=prepare)


def build_application(
    settings: ServiceSettings, threads: int, gpus: float, scratch: Path
) -> Application:
    """The Ray Serve application of a service."""
    limits = settings.limits
    ingress = serve.ingress(None)(Replica)
    deployment = serve.deployment(
        name="model",
        num_replicas=settings.replicas,
        # Above what a replica accepts by itself (``waiting_items``, answered as JSON), these
        # two bound what may pile up before it.
        max_ongoing_requests=2 * limits.waiting_items,
        max_queued_requests=2 * limits.waiting_items,
        backpressure_config={"status_code": 503, "retry_after_s": 1},
        graceful_shutdown_timeout_s=limits.drain_seconds,
        graceful_shutdown_wait_loop_s=0.1,
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": threads, "num_gpus": gpus},
    )(ingress)
    return deployment.bind(settings.to_json(), threads, str(scratch))
