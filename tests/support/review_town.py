"""Withheld mail with words that occur nowhere else, and persons as the kernel would name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosting.auth import persons
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld, Onward, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import AccountId, EmailAddress, TenantId

RITA, EVE, ADAM, SERVER = 4_100_001, 4_100_002, 4_100_003, 4_100_999  # uids of no Unix user
PID = 7

SUBJECT, BODY = "subject-7f3a9", "body-c41e0"
MESSAGE = (
    b"From: Far <far@far.test>\r\n"
    b"To: ann@acme.test\r\n"
    b"Subject: =?utf-8?q?" + SUBJECT.encode() + b"_=1B[2J?=\r\n"
    b"X-Long: " + b"long-word " * 40 + b"\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n"
    b"\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\n" + BODY.encode() + b"\r\n"
    b"--b\r\nContent-Type: text/plain; name=attached-" + BODY.encode() + b".txt\r\n\r\nx\r\n--b--\r\n"
)
SENTENCE, COUNTERFACTUAL = "Its words are those of spam.", "A sender whom the recipient writes to would have passed."


def becoming(monkeypatch: pytest.MonkeyPatch, folder: Path, uid: int) -> None:
    """From now on the kernel says that this process, and that of PID, were started by this user."""
    for pid in (str(PID), "self"):
        (folder / pid).mkdir(parents=True, exist_ok=True)
        (folder / pid / "loginuid").write_text(str(uid))
    monkeypatch.setattr(persons, "PROC", folder)


def withhold(
    installation: Installation, tenant_id: TenantId, account_id: AccountId, recipient: str, message: bytes = MESSAGE
) -> str:
    """The number of a message that is held for a mailbox."""
    address = EmailAddress.parse(recipient)
    new = NewWithheld(
        new_queue_id(installation.clock),
        EmailAddress.parse("far@far.test"),
        EnvelopeParameters(),
        (WithheldFor(address, Onward(Way.MAILBOX, account_id, address), "spam", SENTENCE, COUNTERFACTUAL),),
        installation.clock.now() + 30 * 86_400,
        b"Received: by mx.acme.test id 1\r\nX-Cleanmail-Verdict: quarantine; reason=spam\r\n",
        message,
        5.5,
        {"client": "192.0.2.9", "spf": "fail"},
    )
    return Quarantine(installation).keep(tenant_id, new)


def ask_for_review(installation: Installation, tenant_id: TenantId, quarantine_id: str) -> None:
    """As whoever reports a message as wrongly withheld does."""
    held = installation.tenant(tenant_id).quarantine.show(quarantine_id)
    installation.control.reviews.ask(tenant_id, quarantine_id, received=held.received, reason=held.reason)
