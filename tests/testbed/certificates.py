"""Who may speak to whom: a bed's authority, a certificate for each server, their kubeconfigs.

Decides names, groups and addresses in the certificates. Keys are made anew for every life of a
bed. Imports cryptography beside the standard library.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.testbed.bed import API_PORT, API_SERVICE, NODE, NODE_ADDRESS

_LIFE = timedelta(days=30)
_API_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


@dataclass(frozen=True, slots=True)
class _Leaf:
    file: str
    name: str
    group: str | None = None
    serves: tuple[str, ...] = ()
    kubeconfig: bool = False


_LEAVES = (
    _Leaf(
        "apiserver", "kube-apiserver", serves=(*_API_NAMES, "127.0.0.1", API_SERVICE, NODE_ADDRESS)
    ),
    _Leaf("apiserver-kubelet", "apiserver-kubelet", "system:masters"),
    _Leaf("front-proxy", "front-proxy"),
    _Leaf("admin", "admin", "system:masters", kubeconfig=True),
    _Leaf("controllers", "system:kube-controller-manager", kubeconfig=True),
    _Leaf("scheduler", "system:kube-scheduler", kubeconfig=True),
    _Leaf("proxy", "system:kube-proxy", kubeconfig=True),
    _Leaf("dns", "cluster-dns", kubeconfig=True),
    _Leaf("kubelet", f"system:node:{NODE}", "system:nodes", kubeconfig=True),
    _Leaf("kubelet-server", NODE, serves=(NODE, "127.0.0.1", NODE_ADDRESS)),
)


def write_keys(folder: Path) -> None:
    """Write everything into ``folder``, unless it is there."""
    if (folder / "admin.kubeconfig").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = _Authority.new("tunefleet-testbed")
    (folder / "ca.crt").write_bytes(authority.pem())
    _write_key(folder / "ca.key", authority.key)
    account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(folder / "accounts.key", account_key)
    (folder / "accounts.pub").write_bytes(
        account_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    for leaf in _LEAVES:
        key, certificate = authority.sign(leaf)
        _write_key(folder / f"{leaf.file}.key", key)
        (folder / f"{leaf.file}.crt").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
    for leaf in _LEAVES:
        if leaf.kubeconfig:
            write_kubeconfig(folder, leaf.file, folder / f"{leaf.file}.kubeconfig", API_PORT)


def write_kubeconfig(folder: Path, who: str, path: Path, port: int) -> None:
    """A kubeconfig that needs no other file, for an API server on this port of loopback."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": data("ca.crt"),
    }
    user = {
        "client-certificate-data": data(f"{who}.crt"),
        "client-key-data": data(f"{who}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": who, "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": who}}],
        "current-context": "testbed",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, leaf: _Leaf) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.name)]
        if leaf.group:
            names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.group))
        purpose = (
            ExtendedKeyUsageOID.SERVER_AUTH if leaf.serves else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = (
            _builder(x509.Name(names), self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if leaf.serves:
            builder = builder.add_extension(_alternatives(leaf.serves), critical=False)
        return key, builder.sign(self.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
