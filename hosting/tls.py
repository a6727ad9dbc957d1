"""Certificates: a self-signed authority for trying out, and the context of the IMAP listeners, which can be reloaded.

`make_self_signed` writes ca.pem (to import into a mail program), certificate.pem and key.pem (0600); the authority's
own key is forgotten, so nothing else can ever be signed with it. `ReloadableContext` is a Twisted TLS context factory;
open connections keep what they negotiated when it takes new files. Which certificate a client gets that names the host
it wants is `hosting.tls_names`' business.

Raises: InvalidInput (no valid pair of certificate and key). Standards: RFC 5280, RFC 8996 (nothing older than TLS 1.2),
RFC 9266 (channel bindings).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from hosting.tls_names import Names
from storage.errors import InvalidInput

VALID = timedelta(days=397)  # what mail programs take of a server's certificate
RENEW_BEFORE = timedelta(days=30)

_openssl: Any = SSL  # with what it keeps to itself: there is nothing public about buffers


def make_self_signed(folder: Path, names: Sequence[str], now: datetime | None = None) -> None:
    """ca.pem, certificate.pem and key.pem for `names` (host names and IP addresses) in `folder`."""
    now = now or datetime.now(UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"Cleanmail self-signed CA for {names[0]}")
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name(names[0]), issuer, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    pem = serialization.Encoding.PEM
    _write(folder / "ca.pem", authority.public_bytes(pem), 0o644)
    _write(folder / "certificate.pem", certificate.public_bytes(pem), 0o644)
    _write(
        folder / "key.pem",
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        0o600,
    )


def expires(certificate: Path) -> datetime:
    """When the first certificate of a PEM file ends."""
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise InvalidInput(f"{certificate} holds no certificate.") from None


def check_pair(certificate: Path, key: Path) -> None:
    """Raises InvalidInput with a sentence for the operator unless they are a pair."""
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            why = "cannot be read" if path.exists() else "does not exist"
            raise InvalidInput(f"{path} {why}; see [tls] in the configuration, or: cleanmail init --self-signed.")
    _load(certificate, key)


@implementer(IOpenSSLServerConnectionCreator)
class ReloadableContext:
    """What Twisted asks for the TLS of each connection."""

    def __init__(self, certificate: Path, key: Path, names: Names[SSL.Context] | None = None) -> None:
        """`names`: certificates for clients that ask for another name (`named_contexts`)."""
        self._certificate = certificate
        self._key = key
        self._names = names
        self._context = self._new()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802 - Twisted's name
        return SSL.Connection(self._context, None)

    @property
    def context(self) -> SSL.Context:
        """What new connections get."""
        return self._context

    def reload(self) -> None:
        """Take the files as they are now. Raises InvalidInput, and nothing changes, if they are no valid pair."""
        self._context = self._new()

    def _new(self) -> SSL.Context:
        context = _load(self._certificate, self._key)
        if self._names is not None:
            context.set_tlsext_servername_callback(self._choose)
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        """RFC 6066 §3: the client says which host it wants."""
        name = connection.get_servername()
        if self._names is not None and name is not None:
            named = self._names.find(name.decode("ascii", "replace"))
            if named is not None:
                connection.set_context(named)


def channel_of(connection: SSL.Connection) -> bytes:
    """What SCRAM-SHA-256-PLUS can bind to this connection (RFC 9266): the exporter of TLS 1.3; empty for an older TLS.

    With TLS 1.2 it would need the extended master secret (§3), of which OpenSSL tells us nothing.
    """
    if connection.get_protocol_version() < SSL.TLS1_3_VERSION:
        return b""
    return connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")


def renew_buffers(connection: SSL.Connection) -> bool:
    """Gives a connection that waits new buffers instead of those that stay as large as the most they ever held.

    That is 4 KiB after a handshake, and 22 once somebody has read a message. False: there is something in them. There
    has to be nothing that it began to read or write, either; OpenSSL then allows it (SSL_set_bio(3)).
    """
    ours: Any = connection
    openssl, ffi = _openssl._lib, _openssl._ffi
    content = ffi.new("char **")
    if any(openssl.BIO_get_mem_data(bio, content) for bio in (ours._into_ssl, ours._from_ssl)):
        return False
    came, sent = openssl.BIO_new(openssl.BIO_s_mem()), openssl.BIO_new(openssl.BIO_s_mem())
    if ffi.NULL in (came, sent):
        for bio in (came, sent):
            openssl.BIO_free(bio)
        return False
    openssl.SSL_set_bio(ours._ssl, came, sent)  # frees those before
    ours._into_ssl, ours._from_ssl = came, sent
    return True


def named_contexts(directory: Path | None) -> Names[SSL.Context]:
    """The certificates of a folder, for `ReloadableContext`."""
    return Names(directory, _load)


def _load(certificate: Path, key: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION | SSL.OP_SINGLE_ECDH_USE
    )
    context.set_cipher_list(b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection gives its 34 KB of buffers back
    try:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
    except (SSL.Error, OSError):
        raise InvalidInput(f"{certificate} and {key} cannot be read, or do not belong together.") from None
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
