"""What an S3 server keeps of large uploads that nobody finished: asked for and taken away.

The object-store client has no call for either, so the requests are made and signed here.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from urllib.parse import quote
from xml.etree import ElementTree

from tests.testbed.s3 import REGION, S3Server

_SAFE = "-_.~"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun."""

    key: str
    number: str


def unfinished(server: S3Server) -> list[Upload]:
    """Every upload of the bucket that is neither finished nor given up."""
    root = ElementTree.fromstring(_ask(server, "GET", "", {"uploads": ""}))
    return [
        Upload(each.findtext("{*}Key", ""), each.findtext("{*}UploadId", ""))
        for each in root.findall("{*}Upload")
    ]


def abort(server: S3Server, upload: Upload) -> None:
    """Take its parts away, as a rule of the bucket does."""
    _ask(server, "DELETE", upload.key, {"uploadId": upload.number})


def _ask(server: S3Server, method: str, key: str, query: Mapping[str, str]) -> bytes:
    request = urllib.request.Request(_signed(server, method, key, query), method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
    return body


def _signed(server: S3Server, method: str, key: str, query: Mapping[str, str]) -> str:
    """An address that carries its signature (AWS Signature Version 4)."""
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    scope = (moment[:8], REGION, "s3", "aws4_request")
    asked = {
        **query,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "/".join((server.keys.access, *scope)),
        "X-Amz-Date": moment,
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host",
    }
    path = quote("/".join(("", server.bucket, key)).rstrip("/"), safe=f"/{_SAFE}")
    line = "&".join(
        f"{quote(name, safe=_SAFE)}={quote(value, safe=_SAFE)}"
        for name, value in sorted(asked.items())
    )
    host = server.endpoint.partition("://")[2]
    request = "\n".join((method, path, line, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", moment, "/".join(scope), digest))
    secret = reduce(_mac, scope, f"AWS4{server.keys.secret}".encode())
    return f"{server.endpoint}{path}?{line}&X-Amz-Signature={_mac(secret, text).hex()}"


def _mac(secret: bytes, text: str) -> bytes:
    return hmac.new(secret, text.encode(), hashlib.sha256).digest()
