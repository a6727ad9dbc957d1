"""Reports and notices are mail that our own MX takes, as any other server's must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dns_server import DnsServer
from mx_town import ZONE, MxTown, RunningMx

from gateway.dsn.notice import notice
from gateway.dsn.report import About, Sending, Told, report
from gateway.dsn.rules import Action
from storage.queue.entries import Reply
from storage.values import EmailAddress


@pytest.fixture
def mx(tmp_path: Path) -> Iterator[RunningMx]:
    town = MxTown(tmp_path)
    with DnsServer(ZONE) as dns:
        running = RunningMx(town, dns)
        try:
            yield running
        finally:
            running.stop()
            town.close()


ALICE = EmailAddress.parse("alice@example.test")
TOLD = [
    Told(Action.FAILED, "x@far.test", "", "5.1.1", Reply(550, "5.1.1", "No, für Sie nicht", "mx.far.test")),
    Told(Action.FAILED, "jörg@far.test", "", "5.1.1", Reply(550, "5.1.1", "word " * 300, "mx.far.test")),
]


@pytest.mark.parametrize(
    ("header", "smtputf8"),
    [
        (b"Subject: plain\r\n", False),
        ("Subject: Grüße\r\n".encode(), True),
        (b"Subject: raw \xff\r\nX: " + b"y" * 3000 + b"\r\n", False),
    ],
)
def test_our_mx_takes_a_report(mx: RunningMx, header: bytes, smtputf8: bool) -> None:
    about = About("entry", 1_750_000_000, "id", smtputf8, header)
    octets = report(Sending("dsn", "mail.elsewhere.test", 1_750_000_100, ALICE), about, TOLD)
    code, said = mx.send("alice@example.test", sender="", message=octets)
    assert code == 250, said
    [kept] = mx.town.inbox("alice")
    assert kept.endswith(octets)


def test_our_mx_takes_a_notice(mx: RunningMx) -> None:
    about = About("entry", 1_750_000_000, "", False, b"Subject: x\r\n")
    sending = Sending("dsn", "mail.elsewhere.test", 1_750_000_100, EmailAddress.parse("postmaster@example.test"))
    octets = notice(sending, about, EmailAddress.parse("x@far.test"), TOLD)
    code, said = mx.send("postmaster@example.test", sender="", message=octets)
    assert code == 250, said
