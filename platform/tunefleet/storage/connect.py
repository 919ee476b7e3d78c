"""From the URI of a remote store to a connection, and how patient it is.

Decides where credentials and the endpoint come from (the environment, AWS's shared files, what
the cloud's machine offers), that no secret is part of a URI, and how long a store that is away
is waited for. Imports ``api``, ``storage.keys`` and obstore.

A request is tried again after errors of the server or the network, with growing pauses:

    a store that has not answered yet          for 15 s, so that a wrong address is soon told
    one that has, or that a worker opens       for 150 s: two minutes of absence are ridden out
    one that was waited for in vain            for 15 s, until it answers again

The last line is for what follows a failed write (tidying up, saying why): it adds up otherwise.
One try takes at most 60 s, so that nothing waits longer than 210 s for one request. Large
objects are moved in requests of 8 MiB or more, so 60 s is enough on a slow line as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from tunefleet.api.errors import StorageError
from tunefleet.storage.keys import split_uri

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "adl")
TRY_SECONDS = 60
CONNECT_SECONDS = 5
_GOOGLE_FILE = ".config/gcloud/application_default_credentials.json"


class Patience(StrEnum):
    """How long a store that does not answer is waited for."""

    SHORT = "short"
    LONG = "long"

    @property
    def seconds(self) -> int:
        """Time after which no further try is begun."""
        return 15 if self is Patience.SHORT else 150


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where credentials come from, in words, and what obstore is told; secrets are not shown."""

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


def connect(uri: str, patience: Patience) -> ObjectStore:
    """A connection to a remote store; nothing is asked of it yet. Raises ``StorageError``."""
    scheme = uri.partition("://")[0]
    root, key = split_uri(uri)
    bucket, prefix = root.partition("://")[2], key or None
    options: ClientConfig = {
        "timeout": timedelta(seconds=TRY_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    retry: RetryConfig = {
        "max_retries": 1000,  # the time is what bounds it
        "retry_timeout": timedelta(seconds=patience.seconds),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
    if scheme == "s3":
        found = s3_credentials(os.environ)
        if str(found.settings.get("endpoint", "")).startswith("http://"):
            options["allow_http"] = True
        return S3Store(
            bucket, prefix=prefix, client_options=options, retry_config=retry, **found.settings
        )
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix, client_options=options, retry_config=retry)
    if os.environ.get("AZURE_STORAGE_ENDPOINT", "").startswith("http://"):
        options["allow_http"] = True
    if scheme == "az":
        return AzureStore(bucket, prefix=prefix, client_options=options, retry_config=retry)
    return AzureStore.from_url(uri, client_options=options, retry_config=retry)


def check_uri(uri: str) -> None:
    """Raise for a remote URI with a secret, a query, or without a bucket."""
    parts = urlsplit(uri)
    if "@" in parts.netloc and parts.scheme not in {"abfs", "abfss"}:
        raise StorageError(
            f"a {parts.scheme}:// location holds a user or a key before its bucket",
            remedy="remove it, and the key from your files: credentials are read from the "
            "environment, never from a location",
        )
    if not parts.netloc:
        raise StorageError(
            f"{uri!r} names no bucket", remedy=f"write {parts.scheme}://bucket/prefix"
        )
    if parts.query or parts.fragment:
        raise StorageError(
            f"{parts.scheme}://{parts.netloc}: a location of a store takes neither ? nor #",
            remedy="write scheme://bucket/prefix; settings are read from the environment",
        )
    if any(part in {".", ".."} for part in unquote(parts.path).split("/")):
        raise StorageError(
            f"{uri!r} holds `.` or `..`", remedy="write the whole prefix below the bucket"
        )


def credentials_source(uri: str) -> str:
    """Where the credentials for this store come from; for people, never a value."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return s3_credentials(os.environ).source
    names = _GOOGLE if scheme == "gs" else _AZURE
    for name in names:
        if os.environ.get(name):
            return f"the environment ({name})"
    if scheme == "gs" and (Path.home() / _GOOGLE_FILE).is_file():
        return f"~/{_GOOGLE_FILE}"
    return "the machine's own identity (none is set in the environment)"


_GOOGLE = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_AZURE = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
)


def s3_endpoint(environment: Mapping[str, str]) -> str | None:
    """The endpoint that is set, without a trailing slash; raises for one with a password."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        found = environment.get(name, "").rstrip("/")
        if found:
            return _checked_endpoint(found, name)
    return None


def _checked_endpoint(found: str, name: str) -> str:
    parts = urlsplit(found)
    if "@" in parts.netloc:
        raise StorageError(
            f"{name} holds a user or a password",
            remedy="set the keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise StorageError(f"{name} is no address: {found!r}", remedy="write https://host:port")
    return found


def s3_credentials(environment: Mapping[str, str]) -> Credentials:
    """Keys, region and endpoint for S3, in the order of AWS's own tools.

    Keys in the environment; a web identity; the profile (``AWS_PROFILE``, else ``default``) of
    the shared files; a container's or a machine's role. Raises ``StorageError`` for a profile
    that is not there or needs more than keys.
    """
    settings: dict[str, Any] = {}
    profile = _profile(environment)
    endpoint = s3_endpoint(environment) or profile.get("endpoint_url")
    if endpoint:
        settings["endpoint"] = _checked_endpoint(endpoint.rstrip("/"), "endpoint_url")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    settings["region"] = region or profile.get("region") or "us-east-1"
    return Credentials(_keys(environment, profile, settings), settings)


def _keys(
    environment: Mapping[str, str], profile: Mapping[str, str], settings: dict[str, Any]
) -> str:
    """Put the keys into ``settings`` where obstore would not find them; where they come from."""
    if environment.get("AWS_SKIP_SIGNATURE", "").lower() in {"1", "true"}:
        return "none: requests are not signed (AWS_SKIP_SIGNATURE)"
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        return "the environment (AWS_ACCESS_KEY_ID)"
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return "the environment (AWS_WEB_IDENTITY_TOKEN_FILE)"
    name = environment.get("AWS_PROFILE") or "default"
    if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
        settings["access_key_id"] = profile["aws_access_key_id"]
        settings["secret_access_key"] = profile["aws_secret_access_key"]
        if profile.get("aws_session_token"):
            settings["session_token"] = profile["aws_session_token"]
        return f"the profile {name!r} of AWS's shared files"
    if "AWS_PROFILE" in environment or profile.keys() & {"credential_process", "sso_session"}:
        return _by_boto3(name, profile, settings)
    for variable in (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        if environment.get(variable):
            return f"the container's role ({variable})"
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise StorageError(
            "there are no credentials for s3://",
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    return "the machine's own role (no keys are set)"


def _by_boto3(name: str, profile: Mapping[str, str], settings: dict[str, Any]) -> str:
    """A profile with a role, a login or a command is what boto3 is for, where it is there."""
    if not profile:
        raise StorageError(
            f"AWS_PROFILE names {name!r}, which is in neither of AWS's shared files",
            remedy="mend the name, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if find_spec("boto3") is None:
        raise StorageError(
            f"the profile {name!r} holds no keys of its own but a role, a login or a command",
            remedy="pip install boto3, or put the keys into the environment: "
            f'eval "$(aws configure export-credentials --profile {name} --format env)"',
        )
    from obstore.auth.boto3 import Boto3CredentialProvider

    settings["credential_provider"] = Boto3CredentialProvider()
    return f"the profile {name!r} of AWS's shared files, by boto3"


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """What AWS's shared files say of the profile; the credentials file comes first."""
    name = environment.get("AWS_PROFILE") or "default"
    home = Path.home() / ".aws"
    config = Path(environment.get("AWS_CONFIG_FILE") or home / "config").expanduser()
    keys = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser()
    section = name if name == "default" else f"profile {name}"
    return _section(config, section) | _section(keys, name)


def _section(path: Path, section: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (ConfigError, UnicodeDecodeError):
        # (The parser's own words would show the line, which may be a secret.)
        raise StorageError(
            f"{path} cannot be read as one of AWS's shared files",
            remedy="mend it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from None
    return dict(parser[section]) if parser.has_section(section) else {}
