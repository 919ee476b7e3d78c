"""One bundle and one service for all tests of this folder: a start takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tunefleet
from tests.tiny_bundles import tiny_bundle
from tunefleet.api.words import Phase
from tunefleet.evaluate.result import BundleResult, GateResult, RunResult, SplitResult
from tunefleet.serve.settings import Endpoint, Limits
from tunefleet.storage.bundle import bundle_digest

SOURCE = str(Path(tunefleet.__file__).parents[1])


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a text classifier, in the folder of the run that made it."""
    run = tmp_path_factory.mktemp("run-0001")
    made = tiny_bundle(tmp_path_factory.mktemp("made"), sources={"text": "review"})
    folder = run / "bundle" / bundle_digest(made).removeprefix("sha256:")[:12]
    folder.parent.mkdir()
    made.rename(folder)
    (run / "RUN.json").write_text("{}")
    write_result(run, folder, None)
    return folder


def write_result(run: Path, folder: Path, gate: GateResult | None) -> None:
    """Put a run's result where a run puts it."""
    split = SplitResult(before={"f1_macro": 0.3}, after={"f1_macro": 0.875}, units=10)
    result = RunResult(
        phase=Phase.SUCCEEDED,
        job="tiny",
        namespace="default",
        run="run-0001",
        attempt=1,
        run_uri=run.as_uri(),
        task="text-classification",
        metric="f1_macro",
        steps=1,
        total_steps=1,
        resumed_from=0,
        workers=1,
        splits={"validation": split},
        gate=gate,
        bundle=BundleResult(uri=folder.as_uri(), path=str(folder), digest="sha256:0", bytes=1),
        wall_seconds=1.0,
    )
    (run / "report").mkdir(exist_ok=True)
    (run / "report" / "result.json").write_text(json.dumps(json.loads(result.to_json())))


SERVING = """
import sys
from tunefleet.serve.settings import Limits
from tunefleet.verbs.serve import serving

with serving(sys.argv[1], limits=Limits.from_json(sys.argv[2])) as endpoint:
    print(endpoint.to_json(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def host(bundle: Path) -> Iterator[tuple[subprocess.Popen[str], Endpoint]]:
    """A process that serves the bundle, with limits small enough to be reached."""
    limits = Limits(body_bytes=20_000, items=8, text_characters=500)
    with subprocess.Popen(
        [sys.executable, "-c", SERVING, str(bundle), limits.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": SOURCE},
    ) as process:
        assert process.stdout is not None
        yield process, Endpoint.from_json(process.stdout.readline())


@pytest.fixture(scope="session")
def service(host: tuple[subprocess.Popen[str], Endpoint]) -> Endpoint:
    """The bundle behind HTTP."""
    return host[1]


@pytest.fixture
def client(service: Endpoint) -> Iterator[httpx.Client]:
    """An HTTP client of the service."""
    with httpx.Client(base_url=service.url, timeout=30) as opened:
        yield opened
