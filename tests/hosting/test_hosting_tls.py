"""Self-signed certificates, as mail programs verify them, and contexts that take new files."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from OpenSSL import SSL

from hosting import tls
from storage.errors import InvalidInput


def handshake(context: SSL.Context, ca: Path, name: str) -> dict[str, object]:
    """What a client that verifies against `ca` sees."""
    ours, theirs = socket.socketpair()
    server = SSL.Connection(context, ours)

    def serve() -> None:
        server.set_accept_state()
        try:
            server.do_handshake()
            server.recv(1)
        except SSL.Error:
            return

    ours.settimeout(None)
    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(ca))
    try:
        with client.wrap_socket(theirs, server_hostname=name) as connection:
            certificate = connection.getpeercert()
            connection.send(b"x")
            return {**(certificate or {}), "version": connection.version()}
    finally:
        theirs.close()
        thread.join()
        ours.close()


def test_a_client_with_the_ca_file_trusts_every_name(tmp_path: Path) -> None:
    tls.make_self_signed(tmp_path, ["localhost", "127.0.0.1", "::1", "mail.example.test"])
    context = tls.ReloadableContext(tmp_path / "certificate.pem", tmp_path / "key.pem")
    for name in ("localhost", "127.0.0.1", "mail.example.test"):
        assert handshake(context.context, tmp_path / "ca.pem", name)["version"] == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context.context, tmp_path / "ca.pem", "elsewhere.example")


def test_the_key_is_for_its_owner_alone_and_the_authority_leaves_none(tmp_path: Path) -> None:
    tls.make_self_signed(tmp_path, ["localhost"])
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]
    assert b"PRIVATE" not in (tmp_path / "ca.pem").read_bytes()


def test_it_ends_when_mail_programs_want_it_to(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    tls.make_self_signed(tmp_path, ["localhost"], now)
    assert tls.expires(tmp_path / "certificate.pem") == now + tls.VALID


def test_reload_takes_new_files_and_refuses_a_pair_that_does_not_fit(tmp_path: Path) -> None:
    tls.make_self_signed(tmp_path, ["localhost"])
    context = tls.ReloadableContext(tmp_path / "certificate.pem", tmp_path / "key.pem")
    first = context.context
    tls.make_self_signed(tmp_path, ["localhost"])
    context.reload()
    assert context.context is not first
    handshake(context.context, tmp_path / "ca.pem", "localhost")

    kept = context.context
    other = tmp_path / "other"
    tls.make_self_signed(other, ["localhost"])
    (tmp_path / "key.pem").write_bytes((other / "key.pem").read_bytes())
    with pytest.raises(InvalidInput):
        context.reload()
    assert context.context is kept


def test_missing_files_are_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        tls.check_pair(tmp_path / "certificate.pem", tmp_path / "key.pem")
