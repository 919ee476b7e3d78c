"""The routes of a service: who is let in, how long is waited, and what is told.

Decides the HTTP interface over one opened bundle and one way to ask it; knows no Ray, so it
is the same under any server. The limits and the words of requests and errors are
``schema``'s. Imports fastapi, ``evaluate`` and this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from tunefleet.evaluate.inputs import InputError
from tunefleet.evaluate.predictor import Answer, Predictor
from tunefleet.serve import pages, schema
from tunefleet.serve.schema import Item, Refusal
from tunefleet.serve.settings import ServiceSettings

Ask = Callable[[Item], Awaitable[Answer | InputError]]
"""How one item is answered; its error comes back in place of an answer."""


class Service:
    """An opened bundle, the way to ask it, and how much is waiting."""

    def __init__(self, settings: ServiceSettings, predictor: Predictor, ask: Ask) -> None:
        self.limits = settings.limits
        self.metrics = settings.metrics
        self.predictor = predictor
        self._ask = ask
        self._waiting = 0

    @asynccontextmanager
    async def _admit(self, items: int) -> AsyncIterator[None]:
        """Let a request in, or refuse it when too much is waiting."""
        if self._waiting and self._waiting + items > self.limits.waiting_items:
            raise schema.overloaded()
        self._waiting += items
        try:
            yield
        finally:
            self._waiting -= items

    async def predictions(self, items: Sequence[Item], long: bool) -> list[Answer]:
        """The answers of one request, in order; raises :class:`Refusal`."""
        async with self._admit(len(items)):
            try:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    answers = await asyncio.gather(*(self._ask(item) for item in items))
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
            "metrics": dict(self.metrics),
            "goldenDeviation": predictor.deviation,
            "limits": self.limits.model_dump(mode="json", by_alias=True),
        }


def build_routes(service: Service) -> FastAPI:
    """The FastAPI application of a service."""
    described = service.described()
    app = FastAPI(title="tunefleet", version="v1", docs_url=None, redoc_url=None)
    model = {"digest": service.predictor.digest, "task": service.predictor.task_name}

    @app.get("/healthz", summary="Ready to answer", response_model=None)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ready", "model": model})

    @app.get("/v1/model", summary="What the model is and answers", response_model=None)
    async def about() -> JSONResponse:
        return JSONResponse(described)

    @app.post("/v1/predict", summary="Answers for one or several items", response_model=None)
    async def predict(request: Request) -> JSONResponse:
        schema.require_json(request.headers.get("content-type", ""))
        body = await read_body(request, service.limits.body_bytes)
        items, long = schema.parse_items(body, service.predictor.input_columns, service.limits)
        predictions = await service.predictions(items, long)
        return JSONResponse({"predictions": predictions, "model": model})

    @app.get("/", include_in_schema=False, response_model=None)
    async def home() -> HTMLResponse:
        return HTMLResponse(pages.home(described))

    @app.get("/docs", include_in_schema=False, response_model=None)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(pages.docs(app.openapi(), str(request.base_url)))

    _describe(app, service)
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


def _describe(app: FastAPI, service: Service) -> None:
    """Put the task's own columns, labels and errors into the OpenAPI document."""
    limits, predictor = service.limits, service.predictor
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
