"""The routes without Ray: what a client is told when the model fails or takes too long."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tunefleet.api.errors import ModelError, RunError, TunefleetError
from tunefleet.evaluate.inputs import InputError
from tunefleet.evaluate.predictor import Answer, Item, Predictor
from tunefleet.serve.launch import rebuild
from tunefleet.serve.routes import Service, build_routes
from tunefleet.serve.settings import Limits, ServiceSettings


class Broken:
    """A task whose model fails, or takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, model: object, tokenizer: object, items: Sequence[Item]) -> list[Answer]:
        time.sleep(self.seconds)
        raise RuntimeError("CUDA error: device-side assert triggered, at /secret/path.cu:7")


def ask(predictor: Predictor, limits: Limits) -> httpx.Response:
    """One request to a service whose items are not batched with others."""

    async def one(item: Item) -> Answer | InputError:
        return (await asyncio.to_thread(predictor.answer, [item]))[0]

    async def go() -> httpx.Response:
        settings = ServiceSettings(bundle=str(predictor.folder), limits=limits)
        app = build_routes(Service(settings, predictor, one))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.post("/v1/predict", json={"items": [{"text": "a"}]})

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("seconds", "status", "code"),
    [
        pytest.param(0.0, 500, "internal", id="the model fails"),
        pytest.param(0.5, 504, "timeout", id="the model takes too long"),
    ],
)
def test_a_failing_model_is_told_without_its_insides(
    bundle: Path, seconds: float, status: int, code: str
) -> None:
    opened = Predictor.open(bundle, device="cpu")
    broken = replace(opened, task=Broken(seconds))  # type: ignore[arg-type]
    reply = ask(broken, Limits(timeout_seconds=0.2))
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert "secret" not in reply.text


@pytest.mark.parametrize(
    ("kind", "told", "code"),
    [
        pytest.param("ModelError", ModelError, 2, id="a refused bundle"),
        pytest.param("MemoryError", RunError, 1, id="anything else"),
    ],
)
def test_a_failed_start_is_told_as_it_was_raised(
    kind: str, told: type[TunefleetError], code: int
) -> None:
    error = rebuild(json.dumps({"kind": kind, "message": "no good", "remedy": "copy it again"}))
    assert type(error) is told
    assert "no good" in error.message
    assert (error.remedy, error.exit_code) == ("copy it again", code)
