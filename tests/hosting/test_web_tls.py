"""Certificates by the name that a client asks for: from a folder, for contexts of asyncio and of Twisted alike."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from OpenSSL import SSL

from gateway.smtp.tls import ServerCertificate
from hosting import tls
from hosting.roles.certificates import Followed
from hosting.tls_names import Names, choose_by_name, smtp_names

Presented = Callable[[str | None], set[str]]


def pair(folder: Path, *names: str, now: datetime | None = None) -> Path:
    tls.make_self_signed(folder, names, now)
    return folder


def presented_by(server: Callable[[], SSL.Connection | ssl.SSLObject], name: str | None) -> set[str]:
    """The names of the certificate that a client is shown which asks for `name`, as it stands."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    shown = server()
    for _ in range(6):
        for step in (client.do_handshake, shown.do_handshake):
            with contextlib.suppress(SSL.WantReadError, ssl.SSLWantReadError):
                step()
            carry(client, shown)
    certificate = client.get_peer_certificate()
    assert certificate is not None
    extension = certificate.to_cryptography().extensions.get_extension_for_class(tls.x509.SubjectAlternativeName)
    return set(extension.value.get_values_for_type(tls.x509.DNSName))


def carry(client: SSL.Connection, server: SSL.Connection | ssl.SSLObject) -> None:
    """Octets both ways between two that have no socket."""
    if isinstance(server, SSL.Connection):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
        return
    incoming, outgoing = BIOS[server]
    with contextlib.suppress(SSL.WantReadError):
        incoming.write(client.bio_read(65536))
    if octets := outgoing.read():
        client.bio_write(octets)


BIOS: dict[ssl.SSLObject, tuple[ssl.MemoryBIO, ssl.MemoryBIO]] = {}


def of_asyncio(folder: Path) -> tuple[Names[ssl.SSLContext], Presented]:
    certificate = ServerCertificate(folder / "certificate.pem", folder / "key.pem")
    names = smtp_names(folder / "names")
    choose_by_name(certificate.context, names)

    def server() -> ssl.SSLObject:
        bios = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = certificate.context.wrap_bio(*bios, server_side=True)
        BIOS[made] = bios
        return made

    return names, lambda name: presented_by(server, name)


def of_twisted(folder: Path) -> tuple[Names[SSL.Context], Presented]:
    names = tls.named_contexts(folder / "names")
    context = tls.ReloadableContext(folder / "certificate.pem", folder / "key.pem", names)

    def server() -> SSL.Connection:
        made = context.serverConnectionForTLS(None)
        made.set_accept_state()
        return made

    return names, lambda name: presented_by(server, name)


@pytest.mark.parametrize("kind", [of_asyncio, of_twisted])
def test_the_certificate_is_the_one_for_the_name(
    tmp_path: Path, kind: Callable[[Path], tuple[Names[object], Presented]]
) -> None:
    pair(tmp_path, "localhost")
    pair(tmp_path / "names" / "one", "mail.one.test", "autoconfig.one.test")
    pair(tmp_path / "names" / "wild", "*.two.test")
    acme = pair(tmp_path / "names" / "acme", "three.test")
    (acme / "certificate.pem").rename(acme / "fullchain.pem")
    (acme / "key.pem").rename(acme / "privkey.pem")
    names, presented = kind(tmp_path)
    one = {"mail.one.test", "autoconfig.one.test"}
    expected = {
        "mail.one.test": one,
        "MAIL.one.test.": one,  # a trailing dot, and capitals
        "autoconfig.one.test": one,
        "mail.two.test": {"*.two.test"},
        "a.mail.two.test": {"localhost"},  # a wildcard is for one label
        "two.test": {"localhost"},
        "three.test": {"three.test"},
        "elsewhere.test": {"localhost"},
        "localhost": {"localhost"},
    }
    assert {name: presented(name) for name in expected} == expected
    assert presented(None) == {"localhost"}

    pair(tmp_path / "names" / "four", "four.test")
    shutil.rmtree(tmp_path / "names" / "wild")
    assert names.refresh() and not names.refresh()
    assert presented("four.test") == {"four.test"}
    assert presented("mail.two.test") == {"localhost"}


def test_of_two_the_one_that_ends_later_counts(tmp_path: Path) -> None:
    pair(tmp_path / "a", "one.test", now=datetime(2026, 3, 1, tzinfo=UTC))
    pair(tmp_path / "b", "one.test", "new.one.test", now=datetime(2026, 6, 1, tzinfo=UTC))
    pair(tmp_path / "c", "one.test", now=datetime(2026, 1, 1, tzinfo=UTC))
    chosen = Names(tmp_path, lambda certificate, key: certificate.parent.name)
    assert chosen.find("one.test") == "b"


def test_a_pair_that_does_not_fit_is_told_once_and_the_former_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pair(tmp_path / "names" / "one", "one.test")
    bad = pair(tmp_path / "names" / "bad", "bad.test")
    (bad / "key.pem").write_text("no key")
    (tmp_path / "names" / "empty").mkdir()
    (tmp_path / "names" / "README").write_text("A file.")
    with caplog.at_level(logging.ERROR):
        names = smtp_names(tmp_path / "names")
        assert len(caplog.records) == 1
        before = names.find("one.test")
        assert before is not None and names.find("bad.test") is None

        other = pair(tmp_path / "other", "one.test")
        (folder / "key.pem").write_bytes((other / "key.pem").read_bytes())  # half of what is being renewed
        assert not names.refresh() and not names.refresh()
        assert names.find("one.test") is before
        assert len(caplog.records) == 2
    os.replace(other / "certificate.pem", folder / "certificate.pem")
    assert names.refresh()
    assert names.find("one.test") not in (None, before)


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    for names in (smtp_names(None), smtp_names(tmp_path / "missing")):
        assert names.find("one.test") is None and names.find("") is None and not names.refresh()


def test_the_own_certificate_is_taken_when_its_files_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair(tmp_path, "localhost")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    context = tls.ReloadableContext(*files)
    followed = Followed(files, [context.reload])
    first = context.context
    followed.look()
    assert context.context is first

    renewed = pair(tmp_path / "renewed", "localhost")
    os.replace(renewed / "key.pem", files[1])
    for _ in range(3):
        followed.look()
    assert context.context is first and len(caplog.records) == 1
    files[0].unlink()
    followed.look()
    os.replace(renewed / "certificate.pem", files[0])
    followed.look()
    assert context.context is not first and len(caplog.records) == 1
