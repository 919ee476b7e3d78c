"""What the bed is made of, as far as it can be looked at without starting a server."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.testbed import certificates, images, parts
from tests.testbed.bed import Bed, BedError
from tests.testbed.processes import Processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)",
]


class TestProcesses:
    def test_a_started_server_is_found_by_another_command_and_stopped(self, tmp_path: Path) -> None:
        Processes(tmp_path).start("sleeper", SLEEP)
        later = Processes(tmp_path)
        pid = later.pid("sleeper")
        assert pid is not None
        later.start("sleeper", SLEEP)
        assert later.pid("sleeper") == pid, "it was started twice"
        later.stop("sleeper")
        assert later.pid("sleeper") is None
        assert later.names() == []

    def test_one_that_does_not_listen_is_killed(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path)
        processes.start("stubborn", STUBBORN)
        processes.wait("stubborn", lambda: bool(processes.log("stubborn").read_text()), seconds=30)
        processes.stop("stubborn", patience=0.2)
        assert processes.pid("stubborn") is None

    def test_a_pid_that_went_to_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        with subprocess.Popen(SLEEP) as other:
            try:
                began = psutil.Process(other.pid).create_time() - 100
                (tmp_path / "pids").mkdir()
                record = {"pid": other.pid, "began": began}
                (tmp_path / "pids" / "gone.json").write_text(json.dumps(record))
                processes = Processes(tmp_path)
                assert processes.pid("gone") is None
                processes.stop("gone")
                time.sleep(0.1)
                assert other.poll() is None
            finally:
                other.kill()

    def test_waiting_for_one_that_ended_tells_what_it_said(self, tmp_path: Path) -> None:
        processes = Processes(tmp_path)
        processes.start("brief", [sys.executable, "-c", "print('no such flag')"])
        with pytest.raises(BedError, match="ended before it was ready: no such flag"):
            processes.wait("brief", lambda: False, seconds=30)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates as a bed has them."""
    folder = tmp_path_factory.mktemp("keys")
    certificates.write_keys(folder)
    return folder


class TestCertificates:
    @pytest.mark.parametrize(
        ("file", "name", "group"),
        [
            ("admin", "admin", "system:masters"),
            ("kubelet", "system:node:node1", "system:nodes"),
            ("scheduler", "system:kube-scheduler", None),
        ],
    )
    def test_a_client_is_who_rbac_knows(
        self, keys: Path, file: str, name: str, group: str | None
    ) -> None:
        certificate = _read(keys / f"{file}.crt")
        assert [a.value for a in _names(certificate, NameOID.COMMON_NAME)] == [name]
        groups = [a.value for a in _names(certificate, NameOID.ORGANIZATION_NAME)]
        assert groups == ([group] if group else [])
        certificate.verify_directly_issued_by(_read(keys / "ca.crt"))
        assert _purposes(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_the_api_server_answers_under_every_name_it_is_called_by(self, keys: Path) -> None:
        certificate = _read(keys / "apiserver.crt")
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "kubernetes.default.svc" in found.get_values_for_type(x509.DNSName)
        addresses = {str(a) for a in found.get_values_for_type(x509.IPAddress)}
        assert addresses == {"127.0.0.1", "10.96.0.1", "10.200.0.1"}
        assert _purposes(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]

    def test_nobody_else_may_read_a_key(self, keys: Path) -> None:
        private = [*keys.glob("*.key"), *keys.glob("*.kubeconfig")]
        assert len(private) > 10
        assert {path.stat().st_mode & 0o077 for path in private} == {0}

    def test_a_kubeconfig_needs_no_other_file(self, keys: Path, tmp_path: Path) -> None:
        certificates.write_kubeconfig(keys, "admin", tmp_path / "config", 16443)
        document = json.loads((tmp_path / "config").read_text())
        [cluster], [user] = document["clusters"], document["users"]
        assert cluster["cluster"]["server"] == "https://127.0.0.1:16443"
        held = base64.b64decode(user["user"]["client-certificate-data"])
        assert held == (keys / "admin.crt").read_bytes()


class TestImages:
    def test_a_small_image_is_an_oci_archive_whose_digests_hold(self) -> None:
        image = images.Small("localhost/x:1", {"bin/x": b"hello"}, {"bin/y": "x"}, ["/bin/x"])
        stream = io.BytesIO()
        image.write(stream)
        with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
            files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
        blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
        assert all(hashlib.sha256(data).hexdigest() in name for name, data in blobs.items())
        [entry] = json.loads(files["index.json"])["manifests"]
        manifest = json.loads(blobs[f"blobs/{entry['digest'].replace(':', '/')}"])
        [layer] = manifest["layers"]
        with tarfile.open(
            fileobj=io.BytesIO(blobs[f"blobs/{layer['digest'].replace(':', '/')}"])
        ) as tree:
            assert tree.extractfile("bin/y").read() == b"hello"  # type: ignore[union-attr]

    def test_blobs_of_an_earlier_image_are_dropped_from_a_layout(self, tmp_path: Path) -> None:
        blobs = tmp_path / "blobs" / "sha256"
        blobs.mkdir(parents=True)

        def put(data: bytes) -> str:
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            return f"sha256:{digest}"

        old, kept, config = put(b"old"), put(b"layer"), put(b"{}")
        document = {"config": {"digest": config}, "layers": [{"digest": kept}]}
        manifest = put(json.dumps(document).encode())
        index = {"manifests": [{"digest": manifest, "size": 1}]}
        (tmp_path / "index.json").write_text(json.dumps(index))
        images.drop_unused(tmp_path)
        left = {f"sha256:{path.name}" for path in blobs.iterdir()}
        assert left == {kept, config, manifest}
        assert old not in left


class TestParts:
    def test_another_version_is_built_into_another_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts, "_MODULES", tmp_path)
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "go.mod").write_text("require a v1")
        part = parts.Part("x", ".", ("x",))
        before = part.folder
        assert part.folder == before
        (tmp_path / "x" / "go.mod").write_text("require a v2")
        assert part.folder != before

    def test_what_is_missing_is_named_with_the_command_that_brings_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(BedError, match=r"apt-get install .* tool-of-no-one \(or add --install"):
            parts.require({"no-such-program": "tool-of-no-one"}, install=False, say=print)

    def test_without_root_the_other_way_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(BedError, match="set KUBECONFIG instead"):
            parts.require({}, install=False, say=print)


@pytest.mark.parametrize("name", ["../etc", "K8s", "a" * 13, ""])
def test_a_bed_has_a_name_that_is_safe_in_a_path(name: str) -> None:
    with pytest.raises(BedError, match="cannot name a bed"):
        Bed(name)


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _names(
    certificate: x509.Certificate, oid: x509.ObjectIdentifier
) -> list[x509.NameAttribute[str | bytes]]:
    return certificate.subject.get_attributes_for_oid(oid)


def _purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
