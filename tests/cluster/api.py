"""The API server as a test speaks to it: plain HTTP, answers and refusals as JSON values.

Decides nothing. ``kubectl proxy`` lends the administrator's rights; another identity's token goes
straight to the server.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httpx

if TYPE_CHECKING:
    from tests.testbed.clusters import Cluster

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code and the object or refusal that came with it."""

    code: int
    body: Mapping[str, object]

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and message of everything that was refused."""
        details = cast("Mapping[str, object]", self.body.get("details") or {})
        causes = cast("list[Mapping[str, str]]", details.get("causes") or [])
        return [(cause.get("field", ""), cause.get("message", "")) for cause in causes]

    @property
    def message(self) -> str:
        """The refusal in one text."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True, slots=True)
class Api:
    """One identity's way to the server."""

    client: httpx.Client

    def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> Answer:
        """One request; a refusal is an answer too."""
        reply = self.client.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            headers={"content-type": kind},
        )
        try:
            value = reply.json()
        except ValueError:
            value = {"message": reply.text}
        return Answer(reply.status_code, value)


@contextlib.contextmanager
def administrator(cluster: Cluster) -> Iterator[Api]:
    """The server with the rights of the kubeconfig, whatever they rest on."""
    command = [cluster.program, f"--kubeconfig={cluster.kubeconfig}", "proxy", "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found is not None, f"kubectl proxy said {line!r}"
        with httpx.Client(base_url=f"http://{found[0]}", timeout=60, trust_env=False) as client:
            yield Api(client)
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def bearer(cluster: Cluster, token: str) -> Iterator[Api]:
    """The server as whoever holds a token."""
    view = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    target = view["clusters"][0]["cluster"]
    trust = ssl.create_default_context()
    if "certificate-authority-data" in target:
        authority = base64.b64decode(target["certificate-authority-data"]).decode()
        trust.load_verify_locations(cadata=authority)
    elif "certificate-authority" in target:
        trust.load_verify_locations(cafile=target["certificate-authority"])
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=target["server"], verify=trust, headers=headers, timeout=60, trust_env=False
    ) as client:
        yield Api(client)
