"""A pod's end of its attempt: one object of the API server, reached over plain HTTP.

Decides how a pod says what becomes of its attempt and learns what is asked of it: a merge
patch of the attempt's status, whose reply carries the spec. No server, no port, no client
library; the token is read again for every request, because it is rotated. What cannot be said
now is said with the next patch. Imports ``api`` and the standard library.

The API: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunefleet.api.attempt import (
    ATTEMPT_ENVIRONMENT,
    NAMESPACE_ENVIRONMENT,
    AttemptSpec,
    AttemptStatus,
)
from tunefleet.api.errors import MachineError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATH = "/apis/tunefleet.dev/v1alpha1/namespaces/{namespace}/finetuneattempts/{name}/status"
_TIMEOUT = 10.0


class GoneError(Exception):
    """The attempt's object is no longer there: nobody waits for this attempt any more."""


class SilentError(Exception):
    """The API server did not take a patch; it may the next time."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt of this pod. ``account`` is the folder with its token and the server's CA."""

    server: str
    namespace: str
    name: str
    account: Path = ACCOUNT

    @staticmethod
    def here() -> Attempt | None:
        """The attempt that this process's environment names; None outside a cluster."""
        name = os.environ.get(ATTEMPT_ENVIRONMENT)
        if not name:
            return None
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        if not host:
            raise MachineError(
                f"{ATTEMPT_ENVIRONMENT} is set, but this is no pod of a cluster",
                remedy=f"run the job itself (`tunefleet run job.yaml`), or unset "
                f"{ATTEMPT_ENVIRONMENT}",
            )
        address = f"[{host}]" if ":" in host else host
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        namespace = os.environ.get(NAMESPACE_ENVIRONMENT, "default")
        return Attempt(f"https://{address}:{port}", namespace, name)

    def patch(self, status: dict[str, object]) -> AttemptSpec:
        """Merge ``status`` into the attempt's; returns the attempt's spec as it stands.

        Raises :class:`GoneError` when there is no such attempt, :class:`SilentError` when the
        server cannot be reached or refuses, ``MachineError`` when the spec is of another version.
        """
        return self._spec(self._send(json.dumps({"status": status}).encode()))

    def told(self) -> AttemptStatus:
        """What has been said of the attempt so far, by whichever of its pods; errors as above."""
        reply = self._send(json.dumps({"status": {}}).encode())
        try:
            return AttemptStatus.from_json(json.dumps(reply.get("status", {})))
        except ValidationError as error:
            raise SilentError(f"the status of {self.name} cannot be read: {error}") from error

    def _spec(self, reply: dict[str, object]) -> AttemptSpec:
        try:
            return AttemptSpec.from_json(json.dumps(reply.get("spec")))
        except ValidationError as error:
            raise MachineError(
                f"attempt {self.name} says what this version cannot read: {error}",
                remedy="let the controller and the image of the pods have the same version",
            ) from error

    def patch_surely(
        self, status: dict[str, object], *, seconds: float, say: Callable[[str], None]
    ) -> AttemptSpec:
        """As :meth:`patch`, again and again until it is taken; SilentError after ``seconds``.

        ``say`` is told why it was not taken.
        """
        deadline, pause = time.monotonic() + seconds, 0.5
        while True:
            try:
                return self.patch(status)
            except SilentError as error:
                if time.monotonic() + pause > deadline:
                    raise
                say(f"the API server did not take the status of {self.name} ({error}); again")
                time.sleep(pause)
                pause = min(10.0, pause * 2)

    def _send(self, body: bytes) -> dict[str, object]:
        request = urllib.request.Request(
            self.server + _PATH.format(namespace=self.namespace, name=self.name),
            data=body,
            method="PATCH",
            headers={
                "Authorization": f"Bearer {self._token()}",
                "Content-Type": "application/merge-patch+json",
                "Accept": "application/json",
                "User-Agent": "tunefleet-pod",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT, context=self._tls()) as reply:
                found = json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                said = _message(error.read())
            if error.code == http.client.NOT_FOUND:
                raise GoneError(f"attempt {self.namespace}/{self.name} is gone") from None
            raise SilentError(f"{error.code}: {said}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SilentError(str(error)) from error
        if not isinstance(found, dict):
            raise SilentError("the reply is no object")
        return found

    def _token(self) -> str:
        try:
            return (self.account / "token").read_text().strip()
        except OSError as error:
            raise SilentError(
                f"the pod has no token ({error.strerror}): its service account must be mounted"
            ) from error

    def _tls(self) -> ssl.SSLContext | None:
        if self.server.startswith("http://"):
            return None
        return ssl.create_default_context(cafile=str(self.account / "ca.crt"))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
