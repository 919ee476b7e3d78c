"""Who we are to the server, when the token changes and when a kubeconfig says so."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from tests.unit.kube.fake_server import THINGS, Answer, FakeServer, fake_server, status
from tunefleet.kube import access as module
from tunefleet.kube.access import Access, NoCluster, connect, from_kubeconfig, in_cluster
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError

UNKNOWN = Answer(401, status(401, "Unauthorized"))


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text(_certificate())
    return tmp_path


def _certificate() -> str:
    """Any certificate that a TLS library can read."""
    import ssl

    der = ssl.create_default_context().get_ca_certs(binary_form=True)[0]
    return ssl.DER_cert_to_PEM_cert(der)


def _inside(account: Path, server: FakeServer) -> Access:
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    access = in_cluster(account, environment, user_agent="tests")
    assert access.server == "https://127.0.0.1:1"
    access._configuration.host = server.url  # the fake speaks no TLS
    return access


def _said(server: FakeServer) -> list[str]:
    return [request.headers.get("Authorization", "") for request in server.requests]


@pytest.mark.parametrize(
    ("reread_seconds", "said"),
    [(0.0, ["Bearer first", "Bearer second"]), (60.0, ["Bearer first", "Bearer first"])],
    ids=["a rotated token is read again once it is due", "and not with every request"],
)
def test_a_pods_token_is_read_from_its_file(
    account: Path, reread_seconds: float, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", reread_seconds)

    async def main() -> list[str]:
        async with fake_server() as server, Client(_inside(account, server)) as client:
            server.put("a")
            await client.get(THINGS, "n", "a")
            (account / "token").write_text("second\n")
            await client.get(THINGS, "n", "a")
            return _said(server)

    assert asyncio.run(main()) == said


def test_a_token_that_is_refused_is_read_again_at_once(account: Path) -> None:
    async def main() -> list[str]:
        async with fake_server() as server, Client(_inside(account, server)) as client:
            server.put("a")
            await client.get(THINGS, "n", "a")
            (account / "token").write_text("second")
            server.answers.append(UNKNOWN)
            await client.get(THINGS, "n", "a")
            return _said(server)

    assert asyncio.run(main()) == ["Bearer first", "Bearer first", "Bearer second"]


def test_a_token_that_is_refused_and_did_not_change_is_not_tried_again(account: Path) -> None:
    async def main() -> int:
        async with fake_server() as server, Client(_inside(account, server)) as client:
            server.answers.append(UNKNOWN)
            with pytest.raises(ApiError) as caught:
                await client.get(THINGS, "n", "a")
            assert caught.value.unauthorized
            return len(server.requests)

    assert asyncio.run(main()) == 1


def _kubeconfig(folder: Path, server: str, user: dict[str, object]) -> Path:
    path = folder / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


_PLUGIN = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "command": "sh",
    "args": [
        "-c",
        "echo '"
        + json.dumps(
            {
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": {"token": "made"},
            }
        )
        + "'",
    ],
    "interactiveMode": "Never",
}


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": "mine"}, "Bearer mine"),
        ({"exec": _PLUGIN}, "Bearer made"),
        (
            {"username": "me", "password": "pass"},
            "Basic " + base64.b64encode(b"me:pass").decode(),
        ),
        ({}, ""),
    ],
    ids=["a token", "a plugin's token", "a password", "nothing"],
)
def test_a_kubeconfig_says_who_we_are(tmp_path: Path, user: dict[str, object], said: str) -> None:
    async def main() -> list[str]:
        async with fake_server() as server:
            path = _kubeconfig(tmp_path, server.url, user)
            async with await Client.connect(path) as client:
                server.put("a")
                await client.get(THINGS, "n", "a")
            return _said(server)

    assert asyncio.run(main()) == [said]


def test_a_kubeconfig_is_found_as_kubectl_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(_kubeconfig(tmp_path, "http://127.0.0.1:2", {})))

    async def main() -> list[str]:
        found = [
            await connect(None, user_agent="tests"),
            await from_kubeconfig(tmp_path / "config", user_agent="tests"),
        ]
        for access in found:
            await access.close()
        return [access.server for access in found]

    assert asyncio.run(main()) == ["http://127.0.0.1:2"] * 2


def test_without_any_cluster_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCluster, match="set KUBECONFIG, or run as a pod"):
        asyncio.run(connect(tmp_path / "nothing", user_agent="tests"))


@pytest.mark.parametrize(
    ("environment", "cluster", "proxy"),
    [
        ({"https_proxy": "http://proxy:3128"}, {}, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "api.example"}, {}, None),
        ({"https_proxy": "http://proxy:3128"}, {"proxy-url": "http://own:1"}, "http://own:1"),
        ({"http_proxy": "http://proxy:3128"}, {}, None),
    ],
    ids=[
        "the environment's proxy is used",
        "unless the server is excepted",
        "a kubeconfig's own goes first",
        "another scheme's is not",
    ],
)
def test_a_server_is_reached_through_the_proxy_that_kubectl_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    cluster: dict[str, str],
    proxy: str | None,
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = _kubeconfig(tmp_path, "https://api.example:6443", {})
    said = json.loads(path.read_text())
    said["clusters"][0]["cluster"] |= cluster
    path.write_text(json.dumps(said))

    async def main() -> str | None:
        access = await from_kubeconfig(path, user_agent="tests")
        await access.close()
        return access.proxy

    assert asyncio.run(main()) == proxy
