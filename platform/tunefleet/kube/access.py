"""Who we are to the API server, and the connection to it.

Decides where address, certificates and credentials come from: a pod's service account, or a
kubeconfig with all its plugins. The one module that imports ``kubernetes``, whose transport,
TLS and authentication are used and whose models, watches and informers are not.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from tunefleet.kube.errors import UNREACHABLE, ApiError

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECTIONS = 100
REREAD_SECONDS = 60.0
"""How old a service account's token gets in memory; the kubelet replaces it long before its end."""
_LEAKS_TLS = sys.version_info < (3, 12, 8) or (3, 13) <= sys.version_info < (3, 13, 1)
"""Whether this Python keeps TLS connections for ever that the other side has cut."""


class NoCluster(Exception):
    """There is no API server to talk to, or its configuration cannot be used."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. ``body`` is JSON, whatever the content type calls it."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object = None
    content_type: str = "application/json"
    accept: str = "application/json"
    seconds: float | None = 30.0
    silence: float | None = None
    """How long the answer may pause between two bytes."""


class Access:
    """An authenticated connection. ``renew`` gets new credentials before the old ones expire.

    ``namespace`` is the one that is meant where none is named.
    """

    def __init__(
        self,
        configuration: Configuration,
        renew: Callable[[], Awaitable[None]],
        *,
        user_agent: str,
        namespace: str = "",
    ) -> None:
        from kubernetes.aio.client.rest import RESTClientObject

        self._configuration = configuration
        self._renew = renew
        self._rest = RESTClientObject(configuration)
        self._connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=self._rest.ssl_context, enable_cleanup_closed=_LEAKS_TLS
        )
        # Proxies are looked up here, once: the library would look for them, and for a netrc
        # file whose password then contradicts our token, with every request.
        self._rest.proxy = configuration.proxy or _proxy(self.server)
        configuration.client_session_kwargs = {"connector": self._connector, "trust_env": False}
        self._user_agent = user_agent
        self.namespace = namespace or "default"

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    @property
    def proxy(self) -> str | None:
        """The proxy on the way to it, if any."""
        proxy: str | None = self._rest.proxy
        return proxy

    @contextlib.asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; its answer, whatever its status, while the context lasts.

        A lost connection, here or while the answer is read inside the context, is an
        :class:`ApiError` without a status.
        """
        try:
            response = await self._send(call)
            if response.status == 401 and await self._renewed():
                response.release()
                response = await self._send(call)
            try:
                yield response
            except BaseException:
                # An answer that is not read to its end: a polite end of TLS would wait for the
                # other side, which is perhaps not there any more.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()
                raise
            finally:
                response.release()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            said = str(error) or type(error).__name__
            message = f"{call.method} {self.server}{call.path}: {said}"
            raise ApiError(UNREACHABLE, "Unreachable", message) from error

    async def close(self) -> None:
        """End every connection, without waiting for the other side to agree."""
        await self._rest.close()
        await self._connector.close(abort_ssl=True)

    async def _send(self, call: Call) -> aiohttp.ClientResponse:
        url = self.server + call.path
        if call.query:
            url += "?" + urlencode(call.query, quote_via=quote)
        headers = {
            "Accept": call.accept,
            # Compressing lists costs the server and us more than a cluster's network does.
            "Accept-Encoding": "identity",
            "Content-Type": call.content_type,
            "User-Agent": self._user_agent,
            **await self._authorization(),
        }
        timeout = aiohttp.ClientTimeout(total=call.seconds, sock_connect=10, sock_read=call.silence)
        answer = await self._rest.request(
            call.method, url, headers=headers, body=call.body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _authorization(self) -> dict[str, str]:
        if self._configuration.username:
            return {"Authorization": str(self._configuration.get_basic_auth_token())}
        bearer = (await self._configuration.auth_settings()).get("BearerToken")
        return {"Authorization": str(bearer["value"])} if bearer and bearer["value"] else {}

    async def _renewed(self) -> bool:
        """Whether there are other credentials now than those that were refused."""
        before = await self._authorization()
        await self._renew()
        return await self._authorization() != before


def _proxy(server: str) -> str | None:
    """The proxy that the environment names for a server, as kubectl takes it."""
    url = urlsplit(server)
    if proxy_bypass(url.netloc):
        return None
    return getproxies().get(url.scheme)


class _TokenFile:
    """A service account's token, read again now and then: by a clock that nobody sets back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")

    def refresh(self, configuration: Configuration) -> None:
        if time.monotonic() - self._read_at >= REREAD_SECONDS:
            self.read(configuration)

    def read(self, configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = "Bearer " + self._path.read_text().strip()
        self._read_at = time.monotonic()


async def connect(kubeconfig: Path | None, *, user_agent: str) -> Access:
    """The cluster that this pod runs in or, outside of one, that a kubeconfig names."""
    from kubernetes.aio.config import ConfigException

    named = kubeconfig is not None or bool(os.environ.get("KUBECONFIG"))
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and not named:
            return in_cluster(SERVICE_ACCOUNT, os.environ, user_agent=user_agent)
        return await from_kubeconfig(kubeconfig, user_agent=user_agent)
    except ConfigException as error:
        remedy = "set KUBECONFIG, or run as a pod that has a service account"
        raise NoCluster(f"no cluster to talk to ({error}): {remedy}") from None


def in_cluster(account: Path, environment: Mapping[str, str], *, user_agent: str) -> Access:
    """The access of a pod's service account, whose token is read again when it is rotated."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    configuration = Configuration()
    InClusterConfigLoader(
        token_filename=str(account / "token"),
        cert_filename=str(account / "ca.crt"),
        try_refresh_token=False,
        environ=environment,
    ).load_and_set(configuration)
    token = _TokenFile(account / "token")
    configuration.refresh_api_key_hook = token.refresh

    async def renew() -> None:
        token.read(configuration)

    own = account / "namespace"
    namespace = own.read_text().strip() if own.exists() else ""
    return Access(configuration, renew, user_agent=user_agent, namespace=namespace)


async def from_kubeconfig(kubeconfig: Path | None, *, user_agent: str) -> Access:
    """The access of a kubeconfig's current context; None: the file that kubectl would take."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import load_kube_config

    path = os.environ.get("KUBECONFIG") or "~/.kube/config"
    configuration = Configuration()
    loader = await load_kube_config(
        config_file=str(kubeconfig) if kubeconfig else os.path.expanduser(path),
        client_configuration=configuration,
        persist_config=False,
    )

    async def renew() -> None:
        # Runs a credential plugin again once what it gave has expired.
        await loader.load_and_set(configuration)

    namespace = str(loader.current_context["context"].get("namespace") or "")
    return Access(configuration, renew, user_agent=user_agent, namespace=namespace)
