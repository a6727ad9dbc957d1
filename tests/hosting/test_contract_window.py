"""What a contract changes for people: protocols that it leaves out, and the window before its end.

In the window mail can be read; nothing is stored, changed or sent, over IMAP, submission or from other servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from auth_town import AuthTown, new_auth_town
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from gateway.acceptance.targets import FULL, NO_LONGER, NOT_NOW
from gateway.mx.recipients import Recipients
from gateway.smtp.replies import SmtpReply
from hosting.auth.signin import SignIn
from hosting.submission.acceptance import Acceptance
from hosting.submission.rules import CONTRACT_ENDS
from storage.directory.resolve import Resolver
from storage.directory.terms import READ_ONLY, ContractLimits, Feature
from storage.errors import AuthenticationFailed, NotIncluded
from storage.values import AccountId, EmailAddress, TenantId

DAY = 86_400
ANN = "ann@acme.test"
ALICE = "alice@example.test"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[AuthTown]:
    with new_auth_town(tmp_path) as town:
        yield town


@pytest.fixture
def acme(town: AuthTown) -> TenantId:
    return town.tenant("acme", "acme.test")


@pytest.fixture
def ann(town: AuthTown, acme: TenantId) -> AccountId:
    return town.account_with(acme, ANN, PASSWORD)


def test_a_protocol_that_the_contract_leaves_out_is_refused(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    town.control.contracts.set_limits(acme, ContractLimits(features=frozenset({Feature.IMAP})))
    town.sign_in(ANN, PASSWORD)
    for protocol in ("submission", "submission", "dav"):  # by argon2, and from memory
        with pytest.raises(NotIncluded, match="does not include this service"):
            town.sign_in(ANN, PASSWORD, protocol=protocol)
    with pytest.raises(AuthenticationFailed):  # who does not know the password learns nothing of the contract
        town.sign_in(ANN, "wrong", protocol="submission")
    results = [(event.protocol, event.result) for event in town.events()]
    assert results == [("imap", "success"), *[("submission", "not_included")] * 2, ("dav", "not_included"),
                       ("submission", "wrong_password")]  # fmt: skip


def test_sessions_end_when_what_they_may_store_changes(town: AuthTown, acme: TenantId, ann: AccountId) -> None:
    contracts, now = town.control.contracts, town.clock.now()
    first = town.sign_in(ANN, PASSWORD)
    assert (first.read_only_from, first.full) == (0, False)
    contracts.set_limits(acme, ContractLimits(bytes=100))
    assert town.verifier.still_valid(first)
    contracts.set_used(acme, 101)
    assert not town.verifier.still_valid(first)
    assert town.sign_in(ANN, PASSWORD).full
    contracts.set_used(acme, 99)
    contracts.set_terms(acme, read_only_days=10)
    contracts.set_end(acme, now + 30 * DAY, "olga")
    assert not town.verifier.still_valid(first)
    second = town.sign_in(ANN, PASSWORD)
    assert [second.is_read_only(now + days * DAY) for days in (19, 20, 31)] == [False, True, True]
    assert town.verifier.still_valid(second)


@pytest.fixture
def mail_town(tmp_path: Path) -> Iterator[MailTown]:
    """alice@example.test has one message; her tenant's contract ends in 30 days, with a window of 10."""
    with new_mail_town(tmp_path) as town:
        with town.account() as account:
            account.messages.append(account.mailboxes.find("INBOX").id, mail("One"))
        contracts = town.installation.control.contracts
        contracts.set_terms(tenant(town), read_only_days=10)
        contracts.set_end(tenant(town), town.clock.now() + 30 * DAY, "olga")
        yield town


def tenant(town: MailTown) -> TenantId:
    return town.accounts[ALICE][0]


READING = """
C: a SELECT INBOX
S: * FLAGS …
S: * OK [PERMANENTFLAGS ()] …
S: * 1 EXISTS
S: * 1 RECENT
S: * OK [UNSEEN 1] …
S: * OK [UIDVALIDITY …
S: * OK [UIDNEXT …
S: * OK [HIGHESTMODSEQ …
S: * OK [MAILBOXID …
S: a OK [READ-ONLY] The contract ends…
C: b FETCH 1 (BODY[]<0.4>)
S: * 1 FETCH (BODY[]<0> {4}
S: From)
S: b OK …
C: c FETCH 1 FLAGS
S: * 1 FETCH (FLAGS (\\Recent))
S: c OK …
"""
WRITING = """
C: d STORE 1 +FLAGS (\\Seen)
S: d NO [NOPERM] The contract ends: mail can be read and exported…
C: e COPY 1 INBOX
S: e NO [NOPERM] …
C: f EXPUNGE
S: f NO [NOPERM] …
C: g CREATE More
S: g NO [NOPERM] …
C: h DELETE Trash
S: h NO [NOPERM] …
C: i RENAME Trash Bin
S: i NO [NOPERM] …
C: j APPEND INBOX {2+}
C> x
C> \\r\\n
C: k NOOP
S: j NO [NOPERM] …
S: k OK …
C: l SUBSCRIBE INBOX
S: l OK …
C: m CLOSE
S: m OK …
"""


def signed_in(town: MailTown) -> CoreClient:
    client = CoreClient(town.services)
    client.receive(1)
    client.send(f"x LOGIN {ALICE} {{{len(PASSWORD)}+}}\r\n{PASSWORD}\r\n".encode())
    assert client.receive(1)[-1].startswith("x OK")
    return client


def test_in_the_window_mail_is_read_over_imap(mail_town: MailTown) -> None:
    mail_town.clock.advance(20 * DAY)
    client = signed_in(mail_town)
    play(client, READING)
    play(client, WRITING)
    client.close()


def test_a_session_that_was_open_before_changes_nothing_either(mail_town: MailTown) -> None:
    mail_town.clock.advance(20 * DAY - 1)
    client = signed_in(mail_town)
    client.send(b"a SELECT INBOX\r\nb STORE 1 FLAGS (\\Deleted)\r\n")
    assert client.receive(1)[-1].startswith("b OK")
    mail_town.clock.advance(1)
    client.send(b"c FETCH 1 BODY[]\r\nd CLOSE\r\ne SELECT INBOX\r\nf FETCH 1 FLAGS\r\n")
    answers = client.receive(1)
    assert "* 1 FETCH (FLAGS (\\Deleted))" in answers  # neither \\Seen nor expunged
    assert answers[-1].startswith("f OK")
    client.close()


def test_above_the_contracts_storage_nothing_is_appended_and_much_can_be_removed(mail_town: MailTown) -> None:
    contracts = mail_town.installation.control.contracts
    contracts.set_limits(tenant(mail_town), ContractLimits(bytes=100))
    contracts.set_used(tenant(mail_town), 101)
    client = signed_in(mail_town)
    client.send(b"a APPEND INBOX {2+}\r\nx\n\r\nb SELECT INBOX\r\nc STORE 1 +FLAGS.SILENT (\\Deleted)\r\nd EXPUNGE\r\n")
    answers = client.receive(1)
    assert answers[0] == "a NO [OVERQUOTA] All accounts of the contract together are above its storage."
    assert answers[-1].startswith("d OK")
    client.close()


@pytest.mark.parametrize(
    ("days", "used", "reply"),
    [
        (0, 0, None),
        (0, 101, FULL),
        (19, 0, None),
        (20, 0, NOT_NOW),
        (22, 0, NOT_NOW),
        (23, 0, NO_LONGER),
        (29, 0, NO_LONGER),
        (29, 101, NO_LONGER),
    ],
)
def test_mail_from_elsewhere(mail_town: MailTown, days: int, used: int, reply: SmtpReply | None) -> None:
    installation = mail_town.installation
    installation.control.contracts.set_limits(tenant(mail_town), ContractLimits(bytes=100))
    installation.control.contracts.set_used(tenant(mail_town), used)
    mail_town.clock.advance(days * DAY)
    looked = Recipients(installation, Resolver(installation)).look_up(EmailAddress.parse(ALICE), 0)
    assert looked.refusal == reply
    assert bool(looked.resolution.mailboxes)


@pytest.mark.parametrize(("days", "reply"), [(19, None), (20, CONTRACT_ENDS), (29, CONTRACT_ENDS)])
def test_sending(mail_town: MailTown, days: int, reply: SmtpReply | None) -> None:
    installation = mail_town.installation
    acceptance = Acceptance(installation, Resolver(installation), mail_town.clock, "mail.example.test")
    mail_town.clock.advance(days * DAY)
    principal = mail_town.authenticator.verify(SignIn("submission", ALICE, PASSWORD, "192.0.2.7"))
    assert acceptance.sender_refusal(principal, EmailAddress.parse(ALICE)) == reply
    assert acceptance.sender_refusal(principal, None) == reply
    recipient = acceptance.resolve(EmailAddress.parse(ALICE))
    assert acceptance.refusal(recipient) == (None if reply is None else NOT_NOW if days < 23 else NO_LONGER)
    assert READ_ONLY.isascii()
