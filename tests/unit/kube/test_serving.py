"""Those who look after the process can ask it three things."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from tunefleet.kube.serving import serving


async def _get(port: int, path: str) -> tuple[int, str, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), response.headers["Content-Type"]


@pytest.mark.parametrize(
    ("path", "alive", "ready", "code", "said"),
    [
        ("/healthz", "", "not yet", 200, "ok\n"),
        ("/healthz", "stuck", "", 503, "stuck\n"),
        ("/readyz", "stuck", "", 200, "ok\n"),
        ("/readyz", "", "the first lists are being read", 503, "the first lists are being read\n"),
    ],
    ids=["alive", "not alive", "ready", "not ready, with the reason"],
)
def test_a_probe_is_answered(path: str, alive: str, ready: str, code: int, said: str) -> None:
    async def main() -> tuple[int, str]:
        async with serving(0, host="127.0.0.1", ready=lambda: ready, alive=lambda: alive) as port:
            return (await _get(port, path))[:2]

    assert asyncio.run(main()) == (code, said)


def test_metrics_are_what_a_prometheus_reads() -> None:
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry).inc(3)

    async def main() -> str:
        async with serving(0, host="127.0.0.1", ready=lambda: "", registry=registry) as port:
            code, text, kind = await _get(port, "/metrics")
            assert code == 200
            assert kind.startswith("text/plain")
            return text

    families = {
        family.name: family for family in text_string_to_metric_families(asyncio.run(main()))
    }
    assert [
        sample.value for sample in families["things"].samples if sample.name == "things_total"
    ] == [3]


def test_the_port_is_free_again_afterwards() -> None:
    async def main() -> None:
        for _ in range(2):
            async with serving(0, host="127.0.0.1", ready=lambda: "") as port:
                pass
            async with serving(port, host="127.0.0.1", ready=lambda: "") as again:
                assert again == port

    asyncio.run(main())
