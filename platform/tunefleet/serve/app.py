"""The application inside a replica: one opened bundle behind a small HTTP interface.

Decides the routes, what is batched together, how much may wait and when a replica is ready
(after it has reproduced its golden batch). Runs inside Ray Serve; the limits and the words of
requests and errors are ``schema``'s. Imports ray.serve, fastapi, ``evaluate`` and this package.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from ray import serve
from ray.serve import Application
from starlette.exceptions import HTTPException

from tunefleet.api.errors import TunefleetError
from tunefleet.evaluate.inputs import InputError
from tunefleet.evaluate.predictor import Answer, Predictor
from tunefleet.serve import pages, schema
from tunefleet.serve.schema import Item, Refusal
from tunefleet.serve.settings import ServiceSettings

FAILURE_FILE = "failure.json"


class Replica:
    """One replica. Its constructor raises when the bundle is not what was evaluated."""

    def __init__(self, settings_json: str, threads: int, scratch: str) -> None:
        self.settings = ServiceSettings.from_json(settings_json)
        self.limits = self.settings.limits
        self.waiting = 0
        try:
            self._executor = _compute_thread(threads)
            opened = self._executor.submit(
                Predictor.open, self.settings.bundle, device=self.settings.device
            )
            self.predictor = opened.result()
        except BaseException as error:
            report_failure(Path(scratch), error)
            raise
        batch = cast("Any", self.answer)
        batch.set_max_batch_size(self.limits.batch_items)
        batch.set_batch_wait_timeout_s(self.limits.batch_wait_seconds)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The routes; Ray Serve asks for them when the constructor is through."""
        return build_routes(self)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002, max_concurrent_batches=1)
    async def answer(self, items: list[Item]) -> list[Answer | InputError]:
        """Answers of items of one or several requests; a bad one's error in its place."""
        loop = asyncio.get_running_loop()
        # The model computes in its own thread, so that health checks and refusals stay quick.
        return await loop.run_in_executor(
            self._executor, self.predictor.answer, items, self.limits.batch_items
        )

    @asynccontextmanager
    async def admit(self, items: int) -> AsyncIterator[None]:
        """Let a request in, or refuse it when too much is waiting."""
        if self.waiting and self.waiting + items > self.limits.waiting_items:
            raise schema.overloaded()
        self.waiting += items
        try:
            yield
        finally:
            self.waiting -= items

    async def predictions(self, items: Sequence[Item], long: bool) -> list[Answer]:
        """The answers of one request, in order; raises :class:`Refusal`."""
        one = cast("Callable[[Item], Awaitable[Answer | InputError]]", self.answer)
        async with self.admit(len(items)):
            try:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    answers = await asyncio.gather(*(one(item) for item in items))
            except TimeoutError:
                raise schema.timed_out(self.limits) from None
        for index, answer in enumerate(answers):
            if isinstance(answer, InputError):
                raise schema.unreadable(answer.problem, f"items[{index}]" if long else "")
        return [answer for answer in answers if not isinstance(answer, InputError)]

    def described(self) -> dict[str, object]:
        """What the model is and answers, for ``/v1/model`` and the pages."""
        predictor, facts = self.predictor, self.predictor.facts
        return {
            "task": facts.task,
            "digest": predictor.digest,
            "labels": list(facts.labels),
            "columns": [column.model_dump(mode="json") for column in facts.columns],
            "example": schema.example(facts.columns),
            "maxLength": facts.max_length,
            "precision": facts.precision.value,
            "baseModel": facts.base_model,
            "metrics": dict(self.settings.metrics),
            "goldenDeviation": predictor.deviation,
            "limits": self.limits.model_dump(mode="json", by_alias=True),
        }


def build_routes(replica: Replica) -> FastAPI:
    """The FastAPI application of a replica."""
    described = replica.described()
    app = FastAPI(title="tunefleet", version="v1", docs_url=None, redoc_url=None)
    model = {"digest": replica.predictor.digest, "task": replica.predictor.task_name}

    @app.get("/healthz", summary="Ready to answer", response_model=None)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ready", "model": model})

    @app.get("/v1/model", summary="What the model is and answers", response_model=None)
    async def about() -> JSONResponse:
        return JSONResponse(described)

    @app.post("/v1/predict", summary="Answers for one or several items", response_model=None)
    async def predict(request: Request) -> JSONResponse:
        schema.require_json(request.headers.get("content-type", ""))
        body = await read_body(request, replica.limits.body_bytes)
        items, long = schema.parse_items(body, replica.predictor.input_columns, replica.limits)
        predictions = await replica.predictions(items, long)
        return JSONResponse({"predictions": predictions, "model": model})

    @app.get("/", include_in_schema=False, response_model=None)
    async def home() -> HTMLResponse:
        return HTMLResponse(pages.home(described))

    @app.get("/docs", include_in_schema=False, response_model=None)
    async def docs() -> HTMLResponse:
        return HTMLResponse(pages.docs(app.openapi()))

    _describe(app, replica)
    _handle_errors(app)
    return app


async def read_body(request: Request, limit: int) -> bytes:
    """The body, read no further than the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise schema.too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise schema.too_large(limit)
        parts.append(part)
    return b"".join(parts)


def report_failure(scratch: Path, error: BaseException) -> None:
    """Leave the reason of a failed start where the one who waits for it looks."""
    known = isinstance(error, TunefleetError)
    record = {
        "kind": type(error).__name__,
        "message": error.message if isinstance(error, TunefleetError) else f"{error}",
        "remedy": error.remedy if isinstance(error, TunefleetError) else "",
        "known": known,
    }
    draft = scratch / f"{FAILURE_FILE}.{os.getpid()}"
    draft.write_text(json.dumps(record), encoding="utf-8")
    os.replace(draft, scratch / FAILURE_FILE)


def _compute_thread(threads: int) -> ThreadPoolExecutor:
    def prepare() -> None:
        import torch

        # The number of OpenMP threads belongs to the thread that asks for it.
        torch.set_num_threads(threads)

    return ThreadPoolExecutor(1, thread_name_prefix="model", initializer=prepare)


def _describe(app: FastAPI, replica: Replica) -> None:
    """Put the task's own columns, labels and errors into the OpenAPI document."""
    limits, predictor = replica.limits, replica.predictor
    document = app.openapi()
    document["info"]["description"] = (
        f"A {predictor.task_name} model tuned from {predictor.facts.base_model}, "
        f"digest {predictor.digest}."
    )
    parts = document.setdefault("components", {}).setdefault("schemas", {})
    parts["Item"] = schema.item_schema(predictor.input_columns, limits)
    parts["Predictions"] = schema.response_schema(predictor.labels)
    parts["Error"] = schema.error_schema()
    operation = document["paths"]["/v1/predict"]["post"]
    body = {"schema": schema.request_schema(predictor.input_columns, limits)}
    operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    answered = {"schema": {"$ref": "#/components/schemas/Predictions"}}
    operation["responses"] = {
        "200": {"description": "Answers in order", "content": {"application/json": answered}}
    }
    failed = {"schema": {"$ref": "#/components/schemas/Error"}}
    for status, said in _STATUSES.items():
        content = {"application/json": failed}
        operation["responses"][str(status)] = {"description": said, "content": content}
    app.openapi_schema = document


_STATUSES = {
    400: "The body is no JSON",
    413: "The body is too large",
    415: "The body does not call itself JSON",
    422: "The JSON does not fit; the error names the field",
    503: "Too much is waiting; see Retry-After",
    504: "No answer in time",
}


def _handle_errors(app: FastAPI) -> None:
    """Give every error the same shape, those of the framework included."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return JSONResponse(error.body(), error.status, headers=error.headers)

    async def misdirected(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path = request.url.path
        codes = {
            404: ("not_found", f"there is no {path}; see /docs"),
            405: ("method_not_allowed", f"{path} does not take {request.method}; see /docs"),
        }
        code, message = codes.get(error.status_code, ("http_error", str(error.detail)))
        refusal = Refusal(error.status_code, code, message)
        return JSONResponse(refusal.body(), error.status_code, headers=error.headers)

    async def failed(_: Request, error: Exception) -> JSONResponse:
        refusal = Refusal(500, "internal", f"the model failed ({type(error).__name__})")
        return JSONResponse(refusal.body(), 500)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, misdirected)
    app.add_exception_handler(Exception, failed)


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
