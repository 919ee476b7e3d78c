"""The S3 server that tests use: it ends with its owner and keeps its data over a stop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import obstore
import psutil
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import S3Store

from tests.testbed.s3 import S3Server, s3_server

ROOT = Path(__file__).parents[2]
OWNER = """
import os, signal, sys
from pathlib import Path
from tests.testbed.s3 import s3_server
with s3_server(Path(sys.argv[1])) as s3:
    print(s3.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_server_dies_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    assert owner.returncode == -9
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(owner.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stopped_server_refuses_and_has_its_data_when_it_is_back(tmp_path: Path) -> None:
    with s3_server(tmp_path) as server:
        obstore.put(server.client(), "kept", b"1")
        impatient = server.client(retry=False)
        server.stop()
        with pytest.raises(GenericError):
            obstore.get(impatient, "kept")
        server.start()
        assert obstore.get(impatient, "kept").bytes() == b"1"


def test_signatures_and_rights_are_checked(s3: S3Server) -> None:
    obstore.put(s3.client(), "rights", b"1")
    assert obstore.get(s3.client(s3.reader), "rights").bytes() == b"1"
    with pytest.raises(PermissionDeniedError, match="AccessDenied"):
        obstore.put(s3.client(s3.reader), "rights", b"2")
    forger: S3Store = s3.client(type(s3.keys)(s3.keys.access, "guessed"))
    with pytest.raises(PermissionDeniedError, match="SignatureDoesNotMatch"):
        obstore.get(forger, "rights")
