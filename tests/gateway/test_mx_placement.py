"""Copies of one message: each in its mailbox, with its own fields, at once and after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mx_town import MESSAGE, MxTown

from gateway.acceptance.keep import Keeping, Message
from gateway.acceptance.local import deliver_here
from gateway.acceptance.placement import JUNK, JUNK_KEYWORD, delivery
from gateway.acceptance.targets import MailboxTarget, Targets
from gateway.smtp.address import ForwardPath
from storage.mail.annotations import AnnotationLimits
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    new_queue_id,
)
from storage.values import KEYWORDS_PER_MAILBOX, UID_MAX, EmailAddress


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MxTown]:
    town = MxTown(tmp_path)
    yield town
    town.close()


def target(town: MxTown, name: str, *, mailbox: str = JUNK, stamp: bytes = b"") -> MailboxTarget:
    tenant_id, account_id = town.accounts[name]
    address = EmailAddress.parse(f"{name}@{'other' if name == 'mallory' else 'example'}.test")
    return MailboxTarget(tenant_id, account_id, ForwardPath(address), mailbox, stamp)


def keep(town: MxTown, *targets: MailboxTarget) -> int:
    """How many entries it took."""
    message = Message(
        new_queue_id(town.clock),
        Origin.MX,
        None,
        EmailAddress.parse("someone@far.test"),
        EnvelopeParameters(),
        MESSAGE,
        lambda queue_id: b"X-Id: " + queue_id.encode() + b"\r\n",
    )
    return len(Keeping(town.installation).keep(message, Targets(targets)))


def found(town: MxTown, name: str, mailbox: str) -> list[tuple[bytes, set[str]]]:
    """The messages of a mailbox, and the keywords of each."""
    with town.installation.account(*town.accounts[name]) as account:
        box = account.mailboxes.find(mailbox)
        names = account.mailboxes.keywords(box.id)
        return [
            (account.messages.read_message(message_id), {word for bit, word in names.items() if flags >> bit & 1})
            for message_id, flags in account.messages.fetch_rows(box.id, 1, UID_MAX, ("message_id", "flags"))
        ]


def test_one_mailbox_takes_its_copy_into_junk_at_once(town: MxTown) -> None:
    assert keep(town, target(town, "alice", stamp=b"X-Stamp: one\r\n")) == 1
    [(message, keywords)] = found(town, "alice", "Junk")
    assert keywords == {JUNK_KEYWORD}
    assert message.startswith(b"Return-Path: <someone@far.test>\r\nX-Id: ")
    assert message.endswith(b"\r\nX-Stamp: one\r\n" + MESSAGE)
    assert town.inbox("alice") == [] and town.queued() == []


def test_copies_with_different_stamps_are_different_entries(town: MxTown) -> None:
    one, two = b"X-Stamp: one\r\n", b"X-Stamp: two\r\n"
    targets = [
        target(town, "alice", stamp=one),
        target(town, "bob", mailbox="", stamp=two),
        target(town, "mallory", stamp=one),
    ]
    assert keep(town, *targets) == 3
    [(junk, _)], [inbox], [(other, _)] = found(town, "alice", "Junk"), town.inbox("bob"), found(town, "mallory", "Junk")
    assert one in junk and two in inbox and one in other
    assert two not in junk + other and one not in inbox
    assert keep(town, target(town, "alice", stamp=one), target(town, "bob", stamp=one)) == 1


def test_the_mailbox_is_found_by_its_use_and_not_by_its_name(town: MxTown) -> None:
    with town.installation.account(*town.accounts["alice"]) as account:
        account.mailboxes.rename("Junk", "Unwanted/Spam")
        account.mailboxes.create("Junk")
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Unwanted/Spam")) == 1
    assert found(town, "alice", "Junk") == []


def test_an_account_without_one_is_given_one(town: MxTown) -> None:
    with town.installation.account(*town.accounts["alice"]) as account:
        account.mailboxes.delete("Junk")
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Junk")) == 1
    with town.installation.account(*town.accounts["alice"]) as account:
        assert account.mailboxes.find("Junk").special_use == (JUNK,)


def test_a_mailbox_of_that_name_without_the_use_will_do(town: MxTown) -> None:
    with town.installation.account(*town.accounts["alice"]) as account:
        account.mailboxes.delete("Junk")
        account.mailboxes.create("Junk")
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Junk")) == 1
    with town.installation.account(*town.accounts["alice"]) as account:
        assert account.mailboxes.find("Junk").special_use == (JUNK,)  # so it is to the learner and to mail programs
        account.mailboxes.delete("Junk")
        account.mailboxes.create("Junk", ("\\Archive",))
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Junk")) == 1
    with town.installation.account(*town.accounts["alice"]) as account:
        assert account.mailboxes.find("Junk").special_use == ("\\Archive",)


def test_the_use_goes_back_when_the_mailbox_is_deleted_that_was_given_it(town: MxTown) -> None:
    with town.installation.account(*town.accounts["alice"]) as account:
        spam = account.mailboxes.create("Spam")
        limits = AnnotationLimits(10, 1000)
        account.annotations.change(account.account_id, spam.id, {}, limits, special_use=(JUNK,))
    keep(town, target(town, "alice"))
    assert (len(found(town, "alice", "Spam")), found(town, "alice", "Junk")) == (1, [])
    with town.installation.account(*town.accounts["alice"]) as account:
        account.mailboxes.delete("Spam")
        assert account.mailboxes.find("Junk").special_use == (JUNK,)
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Junk")) == 1


def test_a_mailbox_that_has_no_room_for_the_keyword_takes_the_message_all_the_same(town: MxTown) -> None:
    with town.installation.account(*town.accounts["alice"]) as account:
        junk = account.mailboxes.find("Junk")
        words = [f"word{number}" for number in range(KEYWORDS_PER_MAILBOX)]
        account.messages.append(junk.id, MESSAGE, keywords=words)
    keep(town, target(town, "alice"))
    assert len(found(town, "alice", "Junk")) == 2


def test_what_names_no_mailbox_is_inbox(town: MxTown) -> None:
    assert delivery(town.installation, *town.accounts["alice"], "").mailbox == "INBOX"
    assert delivery(town.installation, *town.accounts["alice"], "\\Unheard-of").mailbox == "INBOX"


def test_what_a_crash_interrupted_goes_to_the_same_place(town: MxTown) -> None:
    tenant_id, account_id = town.accounts["alice"]
    address = EmailAddress.parse("alice@example.test")
    recipient = NewRecipient(address, account_id, RecipientParameters(mailbox=JUNK))
    town.installation.queue.enqueue(
        [
            NewEntry(
                new_queue_id(town.clock),
                tenant_id,
                None,
                Origin.MX,
                None,
                EnvelopeParameters(),
                (recipient,),
                town.clock.now() + 3600,
                MESSAGE,
            )
        ]
    )
    [entry] = town.queued()
    deliver_here(town.installation, entry)
    [(_, keywords)] = found(town, "alice", "Junk")
    assert keywords == {JUNK_KEYWORD}
    assert town.inbox("alice") == []


def test_entries_of_earlier_versions_go_to_inbox() -> None:
    earlier = b'{"notify":["NEVER"],"orcpt":"rfc822;x","original":"a@b.test","reverse_path":""}'
    assert RecipientParameters.decode(earlier) == RecipientParameters(("NEVER",), "rfc822;x", "a@b.test")
    later = RecipientParameters(mailbox=JUNK)
    assert RecipientParameters.decode(later.encode()) == later
