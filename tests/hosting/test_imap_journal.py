"""The access journal over IMAP: its owner reads and copies it; nothing that a client sends changes or forges it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from storage.background import Background
from storage.check import check_installation
from storage.checks.finding import Severity
from storage.errors import NotPermitted
from storage.mail import journal
from storage.mail.account import Account, Surroundings
from storage.mail.journal import JournalEntry
from storage.mail.ledger import READ_ONLY
from storage.rebuild import rebuild_account
from storage.register.folder_rules import FolderRules
from storage.retention import remove_due
from storage.values import UidSet

DAY = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        with made.account() as account:
            journal.write(account, [entry(made, 7), entry(made, 9)])
        yield made


def entry(town: MailTown, number: int, time: int | None = None) -> JournalEntry:
    return JournalEntry(number, time or town.clock.now(), mail(f"Record {number}"))


def client(town: MailTown) -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
    assert made.receive(0)[-1].startswith("x OK")
    return made


def tagged(one: CoreClient, command: str) -> str:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)[-1]


def test_it_is_selected_for_reading_only(town: MailTown) -> None:
    """RFC 9051 §6.3.2: READ-ONLY in the tagged answer; §7.1: no permanent flags."""
    play(
        client(town),
        f"""
        C: a SELECT "Access journal"
        S: * FLAGS (…)
        S: * OK [PERMANENTFLAGS ()] …
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ 2] …
        S: * OK [MAILBOXID (…)] …
        S: a OK [READ-ONLY] {READ_ONLY}
        C: b FETCH 1:2 (FLAGS BODY[HEADER.FIELDS (SUBJECT)])
        S: * 1 FETCH (FLAGS (\\Seen \\Recent) BODY[HEADER.FIELDS (SUBJECT)] {{21}}
        S: Subject: Record 7
        S:
        S: )
        S: * 2 FETCH (FLAGS (\\Seen \\Recent) BODY[HEADER.FIELDS (SUBJECT)] {{21}}
        S: Subject: Record 9
        S:
        S: )
        S: b OK …
        C: c SEARCH SUBJECT "Record 9"
        S: * SEARCH 2
        S: c OK …
        C: d UNSELECT
        S: d OK …
        C: e STATUS "Access journal" (RECENT)
        S: * STATUS "Access journal" (RECENT 0)
        S: e OK …
        """,
    )


def test_it_is_listed_and_told_of_like_any_other(town: MailTown) -> None:
    one = client(town)
    play(
        one,
        """
        C: a LIST "" "Access*"
        S: * LIST (…) "/" "Access journal"
        S: a OK …
        C: b LSUB "" "Access*"
        S: * LSUB (…) "/" "Access journal"
        S: b OK …
        C: c STATUS "Access journal" (MESSAGES UNSEEN UIDNEXT HIGHESTMODSEQ)
        S: * STATUS "Access journal" (MESSAGES 2 UNSEEN 0 UIDNEXT 3 HIGHESTMODSEQ 2)
        S: c OK …
        """,
    )
    one.send(b'd SELECT "Access journal" (CONDSTORE)\r\ne IDLE\r\n')
    one.receive(0)
    with town.account() as account:
        journal.write(account, [entry(town, 12)])
    one.look()
    assert "* 3 EXISTS" in one.receive(0)
    one.send(b"DONE\r\n")
    one.receive(0)
    assert tagged(one, "f FETCH 1:* (FLAGS) (CHANGEDSINCE 2)").startswith("f OK")


@pytest.mark.parametrize(
    "command",
    [
        "STORE 1 +FLAGS (\\Deleted)",
        "STORE 1 -FLAGS (\\Seen)",
        "STORE 1:2 FLAGS ($Label)",
        "UID STORE 1 +FLAGS.SILENT (\\Flagged)",
        "EXPUNGE",
        "UID EXPUNGE 1:*",
        "MOVE 1 Trash",
        "UID MOVE 1:* INBOX",
        'COPY 1 "Access journal"',
        'RENAME "Access journal" Mine',
        'RENAME "Access journal" Trash/gone',
        'DELETE "Access journal"',
        'APPEND "Access journal" {4+}\r\nA: b',
        'APPEND "access/../Access journal" {4+}\r\nA: b',
    ],
)
def test_what_would_change_it_is_refused(town: MailTown, command: str) -> None:
    one = client(town)
    assert tagged(one, 'a SELECT "Access journal"').startswith("a OK")
    assert tagged(one, f"b {command}").startswith("b NO ")
    assert tagged(one, "c CLOSE").startswith("c OK")
    with town.account() as account:
        found = journal.find(account)
        assert found is not None and (found.name, found.messages, found.uidnext, found.deleted) == (
            journal.NAME,
            2,
            3,
            0,
        )


def test_from_another_mailbox(town: MailTown) -> None:
    with town.account() as account:
        account.messages.append(account.mailboxes.find("INBOX").id, mail("Forged"))
    one = client(town)
    play(
        one,
        f"""
        C: a COPY 1 "Access journal"
        S: a BAD …
        C: b SELECT INBOX
        S: * FLAGS …
        S: * OK …
        S: * 1 EXISTS
        S: * 1 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK …
        S: * OK …
        S: * OK …
        S: * OK …
        S: b OK [READ-WRITE] …
        C: c COPY 1 "Access journal"
        S: c NO [NOPERM] {READ_ONLY}
        C: d MOVE 1 "Access journal"
        S: d NO [NOPERM] {READ_ONLY}
        C: e RENAME INBOX "Access journal/x"
        S: e NO [CANNOT] The server keeps the name Access journal for itself.
        C: f CREATE "Access journal"
        S: f NO [CANNOT] …
        """,
    )


@pytest.mark.parametrize(
    "command",
    [
        'CREATE "Access journal"',
        'CREATE "access JOURNAL/"',
        'CREATE "Access journal/x"',
        'RENAME Archive "Access journal"',
        'RENAME INBOX "Access journal"',
        'RENAME Archive "Access journal/x"',
    ],
)
def test_nobody_makes_a_mailbox_that_would_pass_for_it(town: MailTown, command: str) -> None:
    """Before the server made its own, too."""
    one = CoreClient(town.services)
    one.send(f'x LOGIN bob@example.test "{PASSWORD}"\r\n'.encode())
    assert one.receive(0)[-1].startswith("x OK")
    assert tagged(one, f"a {command}") == "a NO [CANNOT] The server keeps the name Access journal for itself."
    assert tagged(one, 'b CREATE "Access journals"').startswith("b OK")
    with town.account("bob@example.test") as account:
        assert not any(journal.is_kept(each.name) for each in account.mailboxes.list())
        journal.write(account, [entry(town, 1)])
        found = journal.find(account)
        assert found is not None and found.name == journal.NAME


def test_entries_may_be_copied_out(town: MailTown) -> None:
    """What is copied is the owner's, counts to his quota, and goes when he wants."""
    one = client(town)
    assert tagged(one, 'a SELECT "Access journal"').startswith("a OK")
    assert tagged(one, "b COPY 1:2 Archive").startswith("b OK [COPYUID ")
    with town.account() as account:
        assert account.usage().messages == 2
        archive = account.mailboxes.find("Archive")
        assert len(account.messages.expunge(archive.id, only_deleted=False).uids) == 2
        found = journal.find(account)
        assert found is not None and found.messages == 2 and account.usage().messages == 0
        view = account.views.load(found.id)
        assert len(view.uids) == 2


def test_whatever_program_asks_storage_does_not_change_it(town: MailTown) -> None:
    with town.account() as account:
        found = journal.find(account)
        assert found is not None
        inbox = account.mailboxes.find("INBOX")
        everything = UidSet(((1, 99),))
        for deed in (
            lambda: account.messages.append(found.id, mail("Forged")),
            lambda: account.messages.store(found.id, everything, "add", 8),
            lambda: account.messages.store_now(found.id, everything, "add", 8),
            lambda: account.messages.expunge(found.id, only_deleted=False),
            lambda: account.messages.move(found.id, everything, inbox.id),
            lambda: account.messages.copy(found.id, everything, found.id),
            lambda: account.mailboxes.delete(found.name),
            lambda: account.mailboxes.rename(found.name, "Mine"),
            lambda: account.mailboxes.keep(found.name, 1),
        ):
            with pytest.raises(NotPermitted):
                deed()
        again = journal.find(account)
        assert again is not None and (again.messages, again.name) == (2, journal.NAME)
        assert account.usage().messages == 0


def test_nothing_comes_twice_and_old_entries_go(town: MailTown) -> None:
    now = town.clock.now()
    with town.account() as account:
        assert journal.write(account, [entry(town, 7), entry(town, 8, now - 10 * DAY)]) == 1
        assert journal.write(account, [entry(town, 8)]) == 0
        assert journal.expire(account, now - DAY) == 1
        assert journal.expire(account, now - DAY) == 0
        found = journal.find(account)
        assert found is not None and found.messages == 2 and account.usage().messages == 0
    found = [each for each in check_installation(town.installation) if each.severity is not Severity.NOTE]
    assert found == []  # the counters and the quota fit the rows


def test_an_owner_who_has_a_mailbox_of_that_name(town: MailTown) -> None:
    with town.account("bob@example.test") as account:
        account.mailboxes.create(journal.NAME)
        journal.write(account, [entry(town, 1)])
        found = journal.find(account)
        assert found is not None and found.name == f"{journal.NAME} (2)"
        assert account.mailboxes.find(journal.NAME).messages == 0


def test_a_full_mailbox_gets_its_entries(town: MailTown) -> None:
    tenant_id, account_id = town.accounts["alice@example.test"]
    town.provisioning.set_quota(tenant_id, account_id, quota_bytes=1, quota_messages=1)
    with town.account() as account:
        assert journal.write(account, [entry(town, 11)]) == 1


def test_entries_go_with_the_period_of_access_events_whatever_a_rule_of_folders_says(town: MailTown) -> None:
    town.installation.folder_rules = FolderRules.parse([f"{journal.NAME}=1"])
    for days, left in ((2, 2), (400, 0)):
        town.clock.advance(days * DAY)
        town.installation.clock_guard.confirm()
        assert remove_due(town.installation).failed == 0
        with town.account() as account:
            found = journal.find(account)
            assert found is not None and found.messages == left


def test_an_account_that_is_built_anew_from_its_files(town: MailTown) -> None:
    tenant_id, account_id = town.accounts["alice@example.test"]
    town.installation.close()
    folder = town.data / "tenants" / str(tenant_id) / "accounts" / str(account_id)
    (folder / "account.db").unlink()
    background = Background()
    surroundings = Surroundings(town.clock, "a.b", background)
    key = town.keys.account_key(tenant_id, account_id, "test")
    assert rebuild_account(folder, tenant_id, account_id, key, surroundings).messages == 2
    account = Account.open(folder, tenant_id, account_id, key, surroundings)
    found = journal.find(account)
    assert found is not None and (found.name, found.messages) == (journal.NAME, 2)
    assert account.usage().messages == 0 and journal.write(account, [entry(town, 7)]) == 0
    account.close()
    background.close()
