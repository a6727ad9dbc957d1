"""The owners' journals are written from the audit chain: each record once, whatever fails in between."""

from __future__ import annotations

import email
import email.policy
import os
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from imap_town import MailTown, new_mail_town
from quarantine_place import ALICE as ALICE_THERE
from quarantine_place import ONE, forwarded, to_mailbox
from quarantine_place import Place as QuarantinePlace

from hosting.journal_round import JournalRound
from hosting.journal_words import SECRET_UNTIL, sentence
from storage.audit import SCHEMA
from storage.database.database import Database, Transaction
from storage.directory.disclosures import Authority, Scope, What
from storage.mail import journal

ALICE, BOB, MALLORY = "alice@example.test", "bob@example.test", "mallory@other.test"
DAY = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        yield made


def run(town: MailTown) -> None:
    JournalRound(town.installation, "mail.example.test").run()


def record(town: MailTown, action: str, address: str, role: str = "operator", **details: str) -> int:
    town.installation.acting_as = role
    return town.installation.audit.append(action, "ada", *town.accounts[address], details)


def entries(town: MailTown, address: str = ALICE) -> list[EmailMessage]:
    with town.account(address) as account:
        found = journal.find(account)
        if found is None:
            return []
        rows = account.messages.fetch_rows(found.id, 1, 10_000, ("message_id", "file"))
        texts = [account.messages.read_message(row[-2]) for row in rows]
    return [email.message_from_bytes(text, policy=email.policy.default) for text in texts]


def subjects(town: MailTown, address: str = ALICE) -> list[str]:
    return [message["Subject"] for message in entries(town, address)]


def test_what_an_owner_reads(town: MailTown) -> None:
    number = record(town, "log.access", ALICE, "support", reason="He asked:\nwho was it?", since="2026-01-01")
    town.clock.advance(60)
    run(town)
    (message,) = entries(town)
    assert message["From"] == "Access journal <access-journal@mail.example.test>"
    assert message["Subject"] == "Somebody of support read your access events"
    assert message["Message-ID"] == f"<access-journal-{number}@mail.example.test>"
    assert message["Date"].datetime.timestamp() == town.clock.now() - 60
    assert message["Auto-Submitted"] == "auto-generated" and message["To"] == ALICE
    assert message.get_content_type() == "text/plain"
    said = message.get_content().replace("\r\n", "\n")
    for line in (
        "Who: Somebody of support",
        "What: log.access",
        "Reason: He asked: who was it?",
        "From: 2026-01-01",
        f"Record: {number}",
    ):
        assert f"\n{line}\n" in said
    assert "ada" not in said and "ada" not in message.as_string()


def test_each_record_comes_once_and_to_its_owner_alone(town: MailTown) -> None:
    record(town, "account.show", ALICE)
    record(town, "trace.read", BOB, "")
    town.installation.audit.append("queue.hold", "ada", town.accounts[ALICE][0], None, {"id": "q"})
    run(town)
    run(town)
    town.installation.audit.positions.set("journal", 0)  # what a crash before the position moved leaves
    run(town)
    record(town, "account.freeze", ALICE, "tenant_administrator")
    run(town)
    assert subjects(town) == [
        "An operator looked at your account",
        "An administrator of your organisation stopped your sending",
    ]
    assert subjects(town, BOB) == ["The provider read traces of your messages"] and subjects(town, MALLORY) == []


def test_what_is_no_access_is_not_told(town: MailTown) -> None:
    for action in ("approval.ask", "approval.use", "hold.make"):
        record(town, action, ALICE)
    run(town)
    assert entries(town) == []


def test_actions_that_nobody_put_in_words(town: MailTown) -> None:
    record(town, "something_new.look-at", ALICE)
    found = next(town.installation.audit.read(action="something_new"))
    assert sentence(found) == "An operator acted on your account: something new, look at"


def test_more_records_than_are_held_in_memory(town: MailTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosting.journal_round._AT_ONCE", 3)
    for _ in range(8):
        record(town, "account.show", ALICE)
    run(town)
    assert len(entries(town)) == 8


def test_what_is_older_than_access_events_is_not_told(town: MailTown) -> None:
    record(town, "account.show", ALICE)
    town.clock.advance(400 * DAY)
    record(town, "account.freeze", ALICE)
    run(town)
    assert subjects(town) == ["An operator stopped your sending"]


def test_an_account_that_cannot_be_written_stops_nobody_else(town: MailTown) -> None:
    tenant_id, account_id = town.accounts[ALICE]
    database = town.data / "tenants" / str(tenant_id) / "accounts" / str(account_id) / "account.db"
    hidden = database.with_name("hidden")
    os.rename(database, hidden)
    record(town, "account.show", ALICE)
    record(town, "account.freeze", ALICE)
    record(town, "account.show", BOB)
    run(town)
    assert len(entries(town, BOB)) == 1
    record(town, "account.unfreeze", ALICE)
    run(town)
    os.rename(hidden, database)
    run(town)
    run(town)
    assert subjects(town) == [
        "An operator looked at your account",
        "An operator stopped your sending",
        "An operator let you send again",
    ]
    assert town.installation.audit.positions.under("journal of ") == {}


def test_an_account_that_is_gone_is_passed_over(town: MailTown) -> None:
    record(town, "account.show", ALICE)
    town.keys.destroy_account_key(*town.accounts[ALICE])
    record(town, "account.show", BOB)
    run(town)
    assert len(entries(town, BOB)) == 1 and town.installation.audit.positions.of("journal") == 2


def test_what_an_order_keeps_secret_is_told_when_it_is_over(town: MailTown) -> None:
    tenant_id, account_id = town.accounts[ALICE]
    until = town.clock.now() + 30 * DAY
    disclosures = town.installation.control.disclosures
    scope = Scope(frozenset({What.ACCESS}), 1, town.clock.now())
    case = disclosures.record(
        "c1", Authority.COURT, "A court", "A law", bytes(32), scope, "ada", tenant_id, account_id, secret_until=until
    )
    record(town, "disclosure.extract", ALICE, case=case.case_id, **{SECRET_UNTIL: str(until)})
    record(town, "account.show", ALICE)
    run(town)
    assert subjects(town) == ["An operator looked at your account"]
    town.clock.advance(30 * DAY)
    run(town)
    run(town)
    assert subjects(town)[1:] == ["An operator handed data about you to an authority"]
    assert disclosures.find("c1").told == town.clock.now() and disclosures.to_tell() == []
    assert "secret" not in entries(town)[1].get_content()


def test_what_was_secret_for_longer_than_access_events_are_kept(town: MailTown) -> None:
    tenant_id, account_id = town.accounts[ALICE]
    until = town.clock.now() + 500 * DAY
    town.installation.control.disclosures.record(
        "c1",
        Authority.COURT,
        "A court",
        "A law",
        bytes(32),
        Scope(frozenset({What.ACCESS}), 1, 9),
        "ada",
        tenant_id,
        account_id,
        secret_until=until,
    )
    record(town, "disclosure.extract", ALICE, case="c1", **{SECRET_UNTIL: str(until)})
    run(town)
    town.clock.advance(500 * DAY)
    run(town)
    assert subjects(town) == ["An operator handed data about you to an authority"]
    with town.account(ALICE) as account:
        assert journal.expire(account, until - DAY) == 0
        assert journal.expire(account, until + DAY) == 1


def test_a_record_that_does_not_open_keeps_no_other_journal_from_being_written(town: MailTown) -> None:
    number = record(town, "account.show", ALICE)
    record(town, "account.freeze", ALICE)
    record(town, "account.show", BOB)
    database = Database.open(town.data / "audit.db", town.keys.service_key("audit"), SCHEMA, town.clock)

    def flip(transaction: Transaction) -> None:
        (box,) = transaction.driver.execute("SELECT details FROM record WHERE number = ?", (number,)).fetchone()
        changed = box[:-1] + bytes([box[-1] ^ 1])
        transaction.driver.execute("UPDATE record SET details = ? WHERE number = ?", (changed, number))

    database.write(flip)
    run(town)
    assert subjects(town) == ["An operator stopped your sending"] and len(entries(town, BOB)) == 1
    [damaged, *_] = town.installation.audit.read()
    assert damaged.unreadable and damaged.details is None
    database.write(flip)  # mended
    database.close()
    run(town)
    assert sorted(subjects(town)) == ["An operator looked at your account", "An operator stopped your sending"]
    assert town.installation.audit.positions.under("journal of ") == {}


def test_the_chain_is_signed_each_hour(town: MailTown) -> None:
    audit = town.installation.audit
    run(town)
    assert audit.checkpoints() == []
    for _ in range(2):
        record(town, "account.show", BOB)
        run(town)
    assert [each.number for each in audit.checkpoints()] == [1]
    town.clock.advance(3600)
    run(town)
    run(town)
    assert [each.number for each in audit.checkpoints()] == [1, 2] and audit.examine().signed == 2


def test_it_ends_at_a_whole_step(town: MailTown) -> None:
    record(town, "account.show", ALICE)
    stopped = JournalRound(town.installation, "mail.example.test")
    stopped.stop()
    stopped.run()
    assert entries(town) == []
    run(town)
    assert len(entries(town)) == 1


def test_a_review_is_told_to_those_from_whom_the_message_is_withheld(tmp_path: Path) -> None:
    place = QuarantinePlace(tmp_path)
    installation = place.installation
    quarantine_id = place.held("token", to_mailbox(), forwarded())
    number = installation.audit.append(
        "review.view", "rex", ONE, details={"message": quarantine_id, "reason": "wrong?"}
    )
    installation.audit.append("review.view", "rex", ONE, details={"message": "gone", "reason": "wrong?"})
    JournalRound(installation, "mx.test").run()
    with installation.account(ONE, ALICE_THERE) as account:
        found = journal.find(account)
        assert found is not None and found.messages == 1
        row = account.messages.fetch_rows(found.id, 1, 9, ("message_id",))[0]
        text = account.messages.read_message(row[-1])
    assert b"Subject: A technical reviewer looked at the header of a message that was withheld from you\r\n" in text
    assert b"access-journal-%d@" % number in text and b"rex" not in text
    place.close()
