"""The endpoint as its clients see it: a real service on loopback, asked through HTTP."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.tiny_bundles import LABELS
from tests.tiny_models import SENTENCES
from tunefleet.evaluate.predictor import Predictor
from tunefleet.serve.settings import Endpoint
from tunefleet.storage.bundle import bundle_digest

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def expected(bundle: Path) -> dict[str, dict[str, object]]:
    predictor = Predictor.open(bundle, device="cpu")
    answers = predictor.predict([{"text": text} for text in SENTENCES])
    return dict(zip(SENTENCES, answers, strict=True))


def same(answer: dict[str, object], wanted: dict[str, object]) -> bool:
    return answer["label"] == wanted["label"] and answer["score"] == pytest.approx(
        wanted["score"], abs=1e-4
    )


def test_the_endpoint_says_what_it_serves(service: Endpoint, bundle: Path) -> None:
    assert service.task == "text-classification"
    assert service.digest == bundle_digest(bundle)
    assert service.url.startswith("http://127.0.0.1:")


def test_health_is_good_once_a_replica_has_proved_itself(
    client: httpx.Client, bundle: Path
) -> None:
    reply = client.get("/healthz")
    assert reply.status_code == 200
    assert reply.json()["model"]["digest"] == bundle_digest(bundle)


def test_the_short_form_is_one_item(
    client: httpx.Client, expected: dict[str, dict[str, object]]
) -> None:
    reply = client.post("/v1/predict", json={"text": SENTENCES[0]})
    assert reply.status_code == 200
    (answer,) = reply.json()["predictions"]
    assert same(answer, expected[SENTENCES[0]])
    assert set(answer["scores"]) == set(LABELS)
    assert reply.json()["model"]["task"] == "text-classification"


def test_answers_stand_in_the_order_of_the_items(
    client: httpx.Client, expected: dict[str, dict[str, object]]
) -> None:
    texts = sorted(SENTENCES, key=len)[:8]
    reply = client.post("/v1/predict", json={"items": [{"text": text} for text in texts]})
    answers = reply.json()["predictions"]
    assert len(answers) == len(texts)
    assert all(same(answer, expected[text]) for answer, text in zip(answers, texts, strict=True))


def test_requests_at_the_same_time_get_their_own_answers(
    client: httpx.Client, expected: dict[str, dict[str, object]]
) -> None:
    texts = [SENTENCES[index % len(SENTENCES)] for index in range(60)]

    def ask(text: str) -> dict[str, object]:
        reply = client.post("/v1/predict", json={"text": text})
        assert reply.status_code == 200
        answer: dict[str, object] = reply.json()["predictions"][0]
        return answer

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, texts))
    assert all(same(answer, expected[text]) for answer, text in zip(answers, texts, strict=True))


BAD: list[tuple[str, str, str, dict[str, object], int, str, str | None]] = [
    ("no JSON", "POST", "/v1/predict", {"content": b"{", "headers": JSON}, 400, "bad_json", None),
    ("no body", "POST", "/v1/predict", {"headers": JSON}, 400, "bad_json", None),
    (
        "bytes that are no UTF-8",
        "POST",
        "/v1/predict",
        {"content": b'{"text": "\xff"}', "headers": JSON},
        400,
        "bad_json",
        None,
    ),
    (
        "a number that is none",
        "POST",
        "/v1/predict",
        {"content": b'{"text": NaN}', "headers": JSON},
        400,
        "bad_json",
        None,
    ),
    (
        "a key twice",
        "POST",
        "/v1/predict",
        {"content": b'{"text": "a", "text": "b"}', "headers": JSON},
        400,
        "bad_json",
        None,
    ),
    (
        "nesting without end",
        "POST",
        "/v1/predict",
        {"content": b"[" * 15_000, "headers": JSON},
        400,
        "bad_json",
        None,
    ),
    (
        "a form",
        "POST",
        "/v1/predict",
        {"data": {"text": "a"}},
        415,
        "unsupported_media_type",
        None,
    ),
    (
        "plain text",
        "POST",
        "/v1/predict",
        {"content": b'{"text": "a"}', "headers": {"content-type": "text/plain"}},
        415,
        "unsupported_media_type",
        None,
    ),
    ("a list", "POST", "/v1/predict", {"json": [{"text": "a"}]}, 422, "wrong_type", None),
    ("a wrong type", "POST", "/v1/predict", {"json": {"text": 1}}, 422, "wrong_type", "text"),
    ("a missing field", "POST", "/v1/predict", {"json": {}}, 422, "missing_field", "text"),
    (
        "an unknown field",
        "POST",
        "/v1/predict",
        {"json": {"text": "a", "label": "b"}},
        422,
        "unknown_field",
        "label",
    ),
    (
        "an unknown field beside items",
        "POST",
        "/v1/predict",
        {"json": {"items": [{"text": "a"}], "temperature": 1}},
        422,
        "unknown_field",
        "temperature",
    ),
    (
        "a bad item among good ones",
        "POST",
        "/v1/predict",
        {"json": {"items": [{"text": "a"}, {"text": " "}]}},
        422,
        "empty_text",
        "items[1].text",
    ),
    (
        "items that are no list",
        "POST",
        "/v1/predict",
        {"json": {"items": {}}},
        422,
        "wrong_type",
        "items",
    ),
    ("an empty list", "POST", "/v1/predict", {"json": {"items": []}}, 422, "empty_list", "items"),
    (
        "too many items",
        "POST",
        "/v1/predict",
        {"json": {"items": [{"text": "a"}] * 9}},
        422,
        "too_many_items",
        "items",
    ),
    (
        "a text that is too long",
        "POST",
        "/v1/predict",
        {"json": {"text": "a" * 501}},
        422,
        "text_too_long",
        "text",
    ),
    (
        "half a surrogate pair",
        "POST",
        "/v1/predict",
        {"content": b'{"text": "\\ud800"}', "headers": JSON},
        422,
        "bad_text",
        "text",
    ),
    (
        "a body that is too large",
        "POST",
        "/v1/predict",
        {"json": {"text": "a" * 20_000}},
        413,
        "body_too_large",
        None,
    ),
    ("a wrong method", "GET", "/v1/predict", {}, 405, "method_not_allowed", None),
    ("another wrong method", "DELETE", "/healthz", {}, 405, "method_not_allowed", None),
    ("a wrong path", "GET", "/v2/predict", {}, 404, "not_found", None),
]


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code", "field"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
def test_a_bad_request_is_told_what_is_wrong(
    client: httpx.Client,
    method: str,
    path: str,
    given: dict[str, object],
    status: int,
    code: str,
    field: str | None,
) -> None:
    reply = client.request(method, path, **given)  # type: ignore[arg-type]
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert len(error["message"]) > 5
    assert client.get("/healthz").status_code == 200


def test_a_body_without_a_length_is_read_no_further_than_the_limit(client: httpx.Client) -> None:
    def endless() -> object:
        for _ in range(1000):
            yield b'{"text": "' + b"a" * 1000

    reply = client.post("/v1/predict", content=endless(), headers=JSON)  # type: ignore[arg-type]
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "body_too_large"


def test_a_client_that_goes_away_leaves_the_service_well(
    service: Endpoint, client: httpx.Client
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b'Content-Length: 1000\r\n\r\n{"text": "'
            )
    reply = client.post("/v1/predict", json={"text": "a"})
    assert reply.status_code == 200


def test_the_model_is_described(client: httpx.Client) -> None:
    about = client.get("/v1/model").json()
    assert about["labels"] == list(LABELS)
    assert about["metrics"] == {"f1_macro": 0.875}
    assert about["goldenDeviation"] < 1e-4
    assert about["limits"]["items"] == 8
    assert [column["name"] for column in about["columns"]] == ["text"]


def test_the_openapi_document_describes_the_tasks_own_columns(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    item = document["components"]["schemas"]["Item"]
    assert item["required"] == ["text"]
    assert item["properties"]["text"]["maxLength"] == 500
    assert item["additionalProperties"] is False
    operation = document["paths"]["/v1/predict"]["post"]
    assert set(operation["responses"]) >= {"200", "400", "413", "415", "422", "503", "504"}
    assert "positive" in json.dumps(document["components"]["schemas"]["Predictions"])
    example = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]
    assert client.post("/v1/predict", json=example["example"]).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_fetch_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?\s*(?:https?:)?//", reply.text)
    assert "text" in reply.text


# The last test of the service, because it ends it.
def test_a_service_ends_when_the_one_who_started_it_is_killed(
    host: tuple[subprocess.Popen[str], Endpoint],
) -> None:
    process, _ = host
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 3
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
