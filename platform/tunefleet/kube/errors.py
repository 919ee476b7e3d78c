"""What the API server refuses, in one type that says what the caller can do about it.

Decides how answers become errors. A request that got no answer is an :class:`ApiError` too
(status 0), so that a caller handles one kind of trouble. Imports the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

UNREACHABLE = 0
"""The status of a request whose answer never came. It may have been carried out."""


class ApiError(Exception):
    """A request was refused, or its answer never came.

    ``details`` is the Status object's, where a validation's causes are told field by field.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, object] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, object] = details or {}
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        head = self.reason if self.status == UNREACHABLE else f"{self.status} {self.reason}".strip()
        return f"{head}: {self.message}" if self.message else head

    @property
    def unreachable(self) -> bool:
        """Whether no answer came; what was asked may have been done."""
        return self.status == UNREACHABLE

    @property
    def unauthorized(self) -> bool:
        """Whether the server does not know who asks."""
        return self.status == 401

    @property
    def forbidden(self) -> bool:
        """Whether rights, a policy or a quota refuse."""
        return self.status == 403

    @property
    def not_found(self) -> bool:
        """Whether the object, or its kind, is not there."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Whether the object has changed since it was read."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        """Whether the name is taken."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def gone(self) -> bool:
        """Whether a resource version or a continue token is too old."""
        return self.status == 410

    @property
    def invalid(self) -> bool:
        """Whether the object itself is refused; trying again does not help."""
        return self.status in {400, 422}

    @property
    def too_many_requests(self) -> bool:
        """Whether the server asks for a pause (``retry_after`` says how long)."""
        return self.status == 429


class Fenced(Exception):
    """A write was not sent, because this process may no longer write."""


def from_response(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error of an answer; what is not a Status object is quoted, cut to a line."""
    pause = float(retry_after) if retry_after and retry_after.isdigit() else None
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("kind") == "Status":
        return from_status(said, status, pause)
    text = " ".join(body.decode(errors="replace").split())[:300]
    return ApiError(status, "", text or "the server gave no reason", retry_after=pause)


def from_status(
    said: Mapping[str, object], status: int = 500, retry_after: float | None = None
) -> ApiError:
    """The error that a Status object tells, as an answer or inside a watch."""
    details = said.get("details")
    details = details if isinstance(details, dict) else {}
    code = said.get("code")
    pause = details.get("retryAfterSeconds")
    if retry_after is None and isinstance(pause, int) and pause > 0:
        retry_after = float(pause)
    return ApiError(
        code if isinstance(code, int) and code else status,
        str(said.get("reason") or ""),
        str(said.get("message") or ""),
        details,
        retry_after,
    )
