"""Mailboxes of others: what bob and carol may do with alice's, and that mallory of another tenant may nothing.

INBOX of alice holds two messages; "Work" and "Work/Plans" are hers, too. Dialogues are played on the core, by several
sessions at once where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from account_ending import end_account
from imap_play import CoreClient, interrupted, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.config import Config
from hosting.feed_round import FeedRound, make_fetcher
from hosting.imap.decoder import Frame
from hosting.imap.effects import Work
from hosting.imap.session import State
from hosting.imap.sharing import other_users
from storage.changes import RightsChanged, Subscriber
from storage.directory import mailbox_rights
from storage.directory.mailbox_rights import ANYONE
from storage.export.settings import of_the_account
from storage.logs.access import AccessType
from storage.mail import views
from storage.mail.outcomes import NewMessage
from storage.mail.quota import Limits
from storage.persons.of_collections import shares
from storage.persons.of_records import access
from storage.persons.sought import seek
from storage.pool import AccountPool
from storage.rebuild import rebuild
from storage.values import AccountId, EmailAddress

ALICE, BOB, CAROL, MALLORY = "alice@example.test", "bob@example.test", "carol@example.test", "mallory@other.test"
OF_ALICE = "Other Users/alice@example.test"


class SharingTown:
    def __init__(self, town: MailTown) -> None:
        self.town = town
        town.new_account(town.accounts[BOB][0], CAROL)
        with town.account(ALICE) as account:
            inbox = account.mailboxes.find("INBOX").id
            account.messages.append(inbox, mail("One"), keywords=["$One"])
            account.messages.append(inbox, mail("Two"))
            account.mailboxes.create("Work/Plans")

    def share(self, mailbox: str, who: str, rights: str, *, owner: str = ALICE) -> None:
        """As the command line does: in the directory, and the worker is told."""
        tenant_id, owner_id = self.town.accounts[owner]
        identifier = AccountId(ANYONE) if who == "anyone" else self.town.accounts[who][1]
        with self.town.account(owner) as account:
            mailbox_id = account.mailboxes.find(mailbox).id
        shared = self.town.services.shared
        shared.directory.change(tenant_id, owner_id, mailbox_id, identifier, "replace", rights)
        shared.forget(tenant_id)

    def client(self, who: str, *, enable: str = "") -> CoreClient:
        client = CoreClient(self.town.services)
        client.send(f'x LOGIN {who} "{PASSWORD}"\r\n'.encode())
        if enable:
            client.send(f"y ENABLE {enable}\r\n".encode())
        client.receive(1)
        return client


@pytest.fixture
def place(tmp_path: Path) -> Iterator[SharingTown]:
    with new_mail_town(tmp_path) as town:
        yield SharingTown(town)


# What is shared at the beginning, who speaks, and what is said.
DIALOGUES: dict[str, tuple[dict[str, str], str]] = {
    "select reads what may be read (RFC 4314 §4, §5.1.1, §5.2)": (
        {"INBOX": "lr"},
        """
        C: a SELECT "Other Users/alice@example.test/INBOX"
        S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $One)
        S: * OK [PERMANENTFLAGS ()] …
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: a OK [READ-ONLY] Its owner lets you read only.
        C: b FETCH 1 BODY[]<0.4>
        S: * 1 FETCH (BODY[]<0> {4}
        S: From)
        S: b OK …
        C: c STORE 1 +FLAGS (\\Seen)
        S: c NO [READ-ONLY] …
        C: d EXPUNGE
        S: d NO [READ-ONLY] …
        C: e MOVE 1 INBOX
        S: e NO [READ-ONLY] …
        C: f MYRIGHTS "Other Users/alice@example.test/INBOX"
        S: * MYRIGHTS "Other Users/alice@example.test/INBOX" lr
        S: f OK …
        C: g CLOSE
        S: g OK …
        """,
    ),
    "flags are changed as far as they may be (RFC 4314 §4, STORE)": (
        {"INBOX": "lrs"},
        """
        C: a SELECT "Other Users/alice@example.test/INBOX"
        S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $One)
        S: * OK [PERMANENTFLAGS (\\Seen)] …
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: a OK [READ-WRITE] …
        C: b STORE 1 +FLAGS (\\Seen \\Flagged $New)
        S: * 1 FETCH (UID 1 FLAGS (\\Seen $One \\Recent))
        S: b OK …
        C: c STORE 1 +FLAGS (\\Flagged \\Deleted)
        S: c NO [NOPERM] …
        C: d STORE 1 FLAGS (\\Answered)
        S: * 1 FETCH (UID 1 FLAGS ($One \\Recent))
        S: d OK …
        C: e FETCH 2 BODY[]<0.4>
        S: * 2 FETCH (FLAGS (\\Seen \\Recent) BODY[]<0> {4}
        S: From)
        S: e OK …
        C: f EXPUNGE
        S: f NO [NOPERM] …
        C: g MOVE 1 INBOX
        S: g NO [NOPERM] …
        C: h CLOSE
        S: h OK …
        """,
    ),
    "deletes without expunging (RFC 4314 §4, CLOSE)": (
        {"INBOX": "lrt"},
        """
        C: a SELECT "Other Users/alice@example.test/INBOX"
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS (\\Deleted)] …
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: a OK [READ-WRITE] …
        C: b STORE 1 +FLAGS.SILENT (\\Deleted)
        S: b OK …
        C: c CLOSE
        S: c OK …
        C: d STATUS "Other Users/alice@example.test/INBOX" (MESSAGES UNSEEN DELETED)
        S: * STATUS "Other Users/alice@example.test/INBOX" (MESSAGES 2 UNSEEN 2 DELETED 1)
        S: d OK …
        """,
    ),
    "who may not look it up is told that there is none (RFC 4314 §6)": (
        {"Work": "lr", "Sent": "l"},
        """
        C: a SELECT "Other Users/alice@example.test/INBOX"
        S: a NO [NONEXISTENT] There is no such mailbox.
        C: b SELECT "Other Users/alice@example.test/Nothing"
        S: b NO [NONEXISTENT] There is no such mailbox.
        C: c SELECT "Other Users/carol@example.test/INBOX"
        S: c NO [NONEXISTENT] There is no such mailbox.
        C: d SELECT "Other Users/mallory@other.test/INBOX"
        S: d NO [NONEXISTENT] There is no such mailbox.
        C: e GETACL "Other Users/alice@example.test/INBOX"
        S: e NO [NONEXISTENT] There is no such mailbox.
        C: f MYRIGHTS "Other Users/alice@example.test/INBOX"
        S: f NO [NONEXISTENT] There is no such mailbox.
        C: g STATUS "Other Users/alice@example.test/INBOX" (MESSAGES)
        S: g NO [NONEXISTENT] There is no such mailbox.
        C: h DELETE "Other Users/alice@example.test/INBOX"
        S: h NO [NONEXISTENT] There is no such mailbox.
        C: i SETACL "Other Users/alice@example.test/INBOX" bob@example.test lr
        S: i NO [NONEXISTENT] There is no such mailbox.
        C: j SELECT "Other Users/alice@example.test/Sent"
        S: j NO [NOPERM] …
        C: k SELECT "Other Users/alice@example.test"
        S: k NO [NONEXISTENT] …
        C: l SELECT "Other Users"
        S: l NO [NONEXISTENT] …
        C: m GETACL "Other Users/alice@example.test/Work"
        S: m NO [NOPERM] …
        C: n CREATE "Other Users/alice@example.test/INBOX/New"
        S: n NO [NOPERM] No mailbox can be made there.
        C: o CREATE "Other Users/alice@example.test/Nothing/New"
        S: o NO [NOPERM] No mailbox can be made there.
        C: p CREATE "Other Users/carol@example.test/New"
        S: p NO [NOPERM] No mailbox can be made there.
        C: q CREATE "Other Users"
        S: q NO [NOPERM] No mailbox can be made there.
        C: r COPY 1 "Other Users/alice@example.test/INBOX"
        S: r BAD …
        """,
    ),
    "list shows what may be looked up (RFC 2342 §5, RFC 4314 §4, RFC 8440 §3)": (
        {"INBOX": "lrs", "Work/Plans": "lrikx", "Sent": "l", "Drafts": "r"},
        """
        C: a NAMESPACE
        S: * NAMESPACE (("" "/")) (("Other Users/" "/")) NIL
        S: a OK …
        C: b LIST "" "Other Users/*"
        S: * LIST (\\HasChildren \\NonExistent…) "/" "Other Users/alice@example.test"
        S: * LIST (\\HasNoChildren) "/" "Other Users/alice@example.test/INBOX"
        S: * LIST (\\HasNoChildren \\Noselect) "/" "Other Users/alice@example.test/Sent"
        S: * LIST (\\HasChildren \\NonExistent…) "/" "Other Users/alice@example.test/Work"
        S: * LIST (\\HasNoChildren) "/" "Other Users/alice@example.test/Work/Plans"
        S: b OK …
        C: c LIST "" % RETURN (MYRIGHTS)
        S: * LIST (\\HasNoChildren) "/" "INBOX"
        S: * MYRIGHTS "INBOX" lrswipkxtecda
        S: * LIST (\\HasNoChildren \\Archive) "/" "Archive"
        S: * MYRIGHTS "Archive" lrswipkxtecda
        S: * LIST (\\HasNoChildren \\Drafts) "/" "Drafts"
        S: * MYRIGHTS "Drafts" lrswipkxtecda
        S: * LIST (\\HasNoChildren \\Junk) "/" "Junk"
        S: * MYRIGHTS "Junk" lrswipkxtecda
        S: * LIST (\\HasChildren \\NonExistent…) "/" "Other Users"
        S: * LIST (\\HasNoChildren \\Sent) "/" "Sent"
        S: * MYRIGHTS "Sent" lrswipkxtecda
        S: * LIST (\\HasNoChildren \\Trash) "/" "Trash"
        S: * MYRIGHTS "Trash" lrswipkxtecda
        S: c OK …
        C: d LIST "Other Users/alice@example.test/" % RETURN (MYRIGHTS STATUS (MESSAGES))
        S: * LIST (\\HasNoChildren) "/" "Other Users/alice@example.test/INBOX"
        S: * MYRIGHTS "Other Users/alice@example.test/INBOX" lrs
        S: * STATUS "Other Users/alice@example.test/INBOX" (MESSAGES 2)
        S: * LIST (\\HasNoChildren \\Noselect) "/" "Other Users/alice@example.test/Sent"
        S: * MYRIGHTS "Other Users/alice@example.test/Sent" l
        S: * LIST (\\HasChildren \\NonExistent…) "/" "Other Users/alice@example.test/Work"
        S: d OK …
        C: e LIST (SPECIAL-USE) "" "Other Users/*"
        S: e OK …
        """,
    ),
    "subscriptions (RFC 9051 §6.3.7, RFC 3501 §6.3.9)": (
        {"INBOX": "lr"},
        """
        C: a SUBSCRIBE "Other Users/alice@example.test/inbox"
        S: a OK …
        C: b LIST (SUBSCRIBED) "" "Other Users/*"
        S: * LIST (\\Subscribed \\HasNoChildren) "/" "Other Users/alice@example.test/INBOX"
        S: b OK …
        C: c LSUB "" "Other Users*"
        S: * LSUB (\\HasNoChildren) "/" "Other Users/alice@example.test/INBOX"
        S: c OK …
        C: d LIST (SUBSCRIBED RECURSIVEMATCH) "" "Other Users/%" RETURN (MYRIGHTS)
        S: * LIST (\\HasChildren \\NonExistent…) "/" "Other Users/alice@example.test" ("CHILDINFO" …
        S: d OK …
        C: e UNSUBSCRIBE "Other Users/alice@example.test/Inbox"
        S: e OK …
        C: f LIST (SUBSCRIBED) "" "Other Users/*"
        S: f OK …
        C: g SUBSCRIBE "Other Users/nobody@example.test/INBOX"
        S: g OK …
        C: h LIST (SUBSCRIBED) "" "Other Users/*"
        S: * LIST (\\Subscribed \\HasNoChildren \\NonExistent…) "/" "Other Users/nobody@example.test/INBOX"
        S: h OK …
        """,
    ),
    "create, rename, delete (RFC 4314 §4)": (
        {"Work": "lrkx"},
        """
        C: a CREATE "Other Users/alice@example.test/Work/New/Sub"
        S: a OK [MAILBOXID …
        C: b LIST "" "Other Users/alice@example.test/*" RETURN (MYRIGHTS)
        S: * LIST (\\HasChildren) "/" "Other Users/alice@example.test/Work"
        S: * MYRIGHTS "Other Users/alice@example.test/Work" lrkxc
        S: * LIST (\\HasChildren) "/" "Other Users/alice@example.test/Work/New"
        S: * MYRIGHTS "Other Users/alice@example.test/Work/New" lrkxc
        S: * LIST (\\HasNoChildren) "/" "Other Users/alice@example.test/Work/New/Sub"
        S: * MYRIGHTS "Other Users/alice@example.test/Work/New/Sub" lrkxc
        S: b OK …
        C: c CREATE "Other Users/alice@example.test/Work/New"
        S: c NO [ALREADYEXISTS] …
        C: d CREATE "Other Users/alice@example.test/Work/Kept" (USE (\\Archive))
        S: d NO [USEATTR] …
        C: e RENAME "Other Users/alice@example.test/Work/New" "Other Users/alice@example.test/Work/Old"
        S: e OK …
        C: f RENAME "Other Users/alice@example.test/Work/Old" "Other Users/alice@example.test/Old"
        S: f NO [NOPERM] …
        C: g RENAME "Other Users/alice@example.test/Work/Old" Mine
        S: g NO [NOPERM] …
        C: h RENAME Trash "Other Users/alice@example.test/Work/Trash"
        S: h NO [NOPERM] …
        C: i RENAME "Other Users/alice@example.test/Work" "Other Users/alice@example.test/Work/Old/Deep"
        S: i NO [NOPERM] …
        C: j MYRIGHTS "Other Users/alice@example.test/Work/Old/Sub"
        S: * MYRIGHTS "Other Users/alice@example.test/Work/Old/Sub" lrkxc
        S: j OK …
        C: k DELETE "Other Users/alice@example.test/Work/Old/Sub"
        S: k OK …
        C: l DELETE "Other Users/alice@example.test/Work/Old/Sub"
        S: l NO [NONEXISTENT] …
        C: m DELETE "Other Users/alice@example.test/Work/Plans"
        S: m NO [NONEXISTENT] …
        """,
    ),
    "INBOX stays its owner's (RFC 9051 §6.3.5, §6.3.6)": (
        {"INBOX": "lrswipkxtea"},
        """
        C: a DELETE "Other Users/alice@example.test/INBOX"
        S: a NO [NOPERM] …
        C: b RENAME "Other Users/alice@example.test/INBOX" "Other Users/alice@example.test/INBOX/Old"
        S: b NO [NOPERM] …
        C: c CREATE "Other Users/alice@example.test/INBOX/Below"
        S: c OK …
        C: d STATUS "Other Users/alice@example.test/inbox" (MESSAGES)
        S: * STATUS "Other Users/alice@example.test/INBOX" (MESSAGES 2)
        S: d OK …
        """,
    ),
    "who administers it (RFC 4314 §3, RFC 9208 §6)": (
        {"INBOX": "lra"},
        """
        C: a SETACL "Other Users/alice@example.test/INBOX" carol@example.test lr
        S: a OK …
        C: b GETACL "Other Users/alice@example.test/INBOX"
        S: * ACL "Other …/INBOX" "alice@example.test" lrswipkxtecda "bob@example.test" lra "carol@example.test" lr
        S: b OK …
        C: c SETACL "Other Users/alice@example.test/INBOX" alice@example.test ""
        S: c NO [CANNOT] …
        C: d LISTRIGHTS "Other Users/alice@example.test/INBOX" alice@example.test
        S: * LISTRIGHTS "Other Users/alice@example.test/INBOX" "alice@example.test" lrswipkxtecda
        S: d OK …
        C: e GETQUOTAROOT "Other Users/alice@example.test/INBOX"
        S: * QUOTAROOT "Other Users/alice@example.test/INBOX" "Other Users/alice@example.test"
        S: * QUOTA "Other Users/alice@example.test" ()
        S: e OK …
        C: f GETQUOTA "Other Users/alice@example.test"
        S: * QUOTA "Other Users/alice@example.test" ()
        S: f OK …
        C: g SETACL "Other Users/alice@example.test/INBOX" bob@example.test -a
        S: g OK …
        C: h GETACL "Other Users/alice@example.test/INBOX"
        S: h NO [NOPERM] …
        C: i GETQUOTAROOT "Other Users/alice@example.test/INBOX"
        S: * QUOTAROOT "Other Users/alice@example.test/INBOX"
        S: i OK …
        C: j GETQUOTA "Other Users/alice@example.test"
        S: j NO [NONEXISTENT] …
        """,
    ),
    "append and copy with the flags that may be set (RFC 4314 §4)": (
        {"INBOX": "lrsti", "Sent": "li"},
        """
        C: a APPEND "Other Users/alice@example.test/INBOX" (\\Seen \\Flagged \\Deleted $Word) {18+}
        C> Subject: x\\r\\n\\r\\nHi\\r\\n
        C:
        S: a OK [APPENDUID … 3] …
        C: b EXAMINE "Other Users/alice@example.test/INBOX"
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS ()] …
        S: * 3 EXISTS
        S: * 3 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 4] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: b OK [READ-ONLY] …
        C: c FETCH 3 FLAGS
        S: * 3 FETCH (FLAGS (\\Deleted \\Seen \\Recent))
        S: c OK …
        C: d COPY 1,3 INBOX
        S: d OK [COPYUID … 1,3 1:2] Copied.
        C: e COPY 3 "Other Users/alice@example.test/Sent"
        S: e OK Copied.
        C: f COPY 1 "Other Users/alice@example.test/Work"
        S: f NO [TRYCREATE] …
        C: g COPY 1 "Other Users/alice@example.test/INBOX"
        S: * 4 EXISTS
        S: * 4 RECENT
        S: g OK [COPYUID … 1 4] Copied.
        C: h FETCH 4 FLAGS
        S: * 4 FETCH (FLAGS (\\Recent))
        S: h OK …
        C: i STATUS "Other Users/alice@example.test/Sent" (MESSAGES)
        S: i NO [NOPERM] …
        C: j SELECT INBOX
        S: * OK [CLOSED] …
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: j OK [READ-WRITE] …
        C: k FETCH 1:2 FLAGS
        S: * 1 FETCH (FLAGS ($One \\Recent))
        S: * 2 FETCH (FLAGS (\\Deleted \\Seen \\Recent))
        S: k OK …
        """,
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(place: SharingTown, name: str) -> None:
    given, dialogue = DIALOGUES[name]
    for mailbox, rights in given.items():
        place.share(mailbox, BOB, rights)
    client = place.client(BOB)
    play(client, dialogue)
    selected = client.session.selected
    opened = selected is not None and selected.account is not client.session.account
    assert held(client) == int(opened)  # nothing stays open but where the selected mailbox lies
    client.close()
    assert held(client) == 0


def held(client: CoreClient) -> int:
    """How many accounts of others a session has open."""
    return len(client.session.others) if client.session.others is not None else 0


def said(client: CoreClient, command: str) -> list[str]:
    client.send(command.encode() + b"\r\n")
    return client.receive(1)


def select(client: CoreClient, name: str = f"{OF_ALICE}/INBOX", how: str = "SELECT") -> str:
    return said(client, f'{how} "{name}"'.replace(how, f"s {how}", 1))[-1]


class TestSeveralSessions:
    """What one does the others see (RFC 2180, RFC 7162 §3.2.10)."""

    def test_flags_are_everybodys(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lrs")
        alice, bob = place.client(ALICE), place.client(BOB)
        select(alice, "INBOX"), select(bob)
        said(bob, "a STORE 2 +FLAGS.SILENT (\\Seen)")
        assert said(alice, "b NOOP") == ["* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent))", "b OK Done."]
        said(alice, "c STORE 2 +FLAGS.SILENT (\\Flagged)")
        assert said(bob, "d NOOP") == ["* 2 FETCH (UID 2 FLAGS (\\Flagged \\Seen))", "d OK Done."]

    @pytest.mark.parametrize(("enable", "told"), [("", "* 1 EXPUNGE"), ("QRESYNC", "* VANISHED 1")])
    def test_what_the_owner_expunges_and_gets(self, place: SharingTown, enable: str, told: str) -> None:
        place.share("INBOX", BOB, "lr")
        alice, bob = place.client(ALICE), place.client(BOB, enable=enable)
        select(alice, "INBOX"), select(bob)
        said(alice, "a STORE 1 +FLAGS.SILENT (\\Deleted)")
        said(alice, "b EXPUNGE")
        with place.town.account(ALICE) as account:
            account.messages.append(account.mailboxes.find("INBOX").id, mail("Three"))
        assert said(bob, "c NOOP")[:2] == [told, "* 2 EXISTS"]

    def test_idle_tells_of_the_owners_mail(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        select(bob)
        assert said(bob, "a IDLE") == ["+ idling"]
        with place.town.account(ALICE) as account:
            account.messages.append(account.mailboxes.find("INBOX").id, mail("Three"))
        bob.look()
        assert bob.receive(2) == ["* 3 EXISTS", "* 3 RECENT"]  # who may only read takes nothing
        assert said(bob, "DONE")[-1].startswith("a OK")

    def test_resynchronising(self, place: SharingTown) -> None:
        """RFC 7162 §3.2.5, in a mailbox of somebody else."""
        place.share("INBOX", BOB, "lrste")
        alice, bob = place.client(ALICE), place.client(BOB, enable="QRESYNC")
        opening = said(bob, f'a SELECT "{OF_ALICE}/INBOX"')
        valid, modseq = (
            next(line for line in opening if word in line).split(word)[1].split("]")[0].strip()
            for word in ("UIDVALIDITY", "HIGHESTMODSEQ")
        )
        said(bob, "b UNSELECT")
        select(alice, "INBOX")
        said(alice, "c STORE 1 +FLAGS (\\Deleted)")
        said(alice, "d EXPUNGE")
        again = said(bob, f'e SELECT "{OF_ALICE}/INBOX" (QRESYNC ({valid} {modseq}))')
        assert "* VANISHED (EARLIER) 1" in again
        said(bob, "f STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert said(bob, "g EXPUNGE")[0] == "* VANISHED 2"


class TestNames:
    def test_names_in_either_encoding(self, place: SharingTown) -> None:
        """RFC 3501 §5.1.3 and RFC 9051 §5.1."""
        with place.town.account(ALICE) as account:
            account.mailboxes.create("Entwürfe")
        place.share("Entwürfe", BOB, "lr")
        old, new = place.client(BOB), place.client(BOB, enable="IMAP4rev2")
        assert said(old, f'a LIST "" "{OF_ALICE}/*"')[0].endswith('"Other Users/alice@example.test/Entw&APw-rfe"')
        assert said(new, f'a LIST "" "{OF_ALICE}/*"')[0].endswith('"Other Users/alice@example.test/Entwürfe"')
        assert select(old, f"{OF_ALICE}/Entw&APw-rfe") == "s OK [READ-ONLY] Its owner lets you read only."
        opening = said(new, f's SELECT "{OF_ALICE}/Entwürfe"')
        assert '* LIST () "/" "Other Users/alice@example.test/Entwürfe"' in opening
        assert said(new, f'b MYRIGHTS "{OF_ALICE}/Entwürfe"')[0].endswith('Entwürfe" lr')

    def test_an_owner_whose_address_is_not_ascii(self, place: SharingTown) -> None:
        """Identifiers are literals until UTF-8 may stand in quoted strings; names are as those of mailboxes."""
        owner = "j\u00f6rg/x@example.test"  # a login may even have the separator in it
        place.town.new_account(place.town.accounts[BOB][0], owner)
        place.share("INBOX", BOB, "lra", owner=owner)
        old, new = place.client(BOB), place.client(BOB, enable="IMAP4rev2")
        assert said(old, 'a LIST "" "Other Users/*INBOX"')[0].endswith('"Other Users/j&APY-rg/x@example.test/INBOX"')
        name = "Other Users/j&APY-rg/x@example.test/INBOX"
        assert select(old, name).startswith("s OK")
        acl = "\r\n".join(said(old, f'b GETACL "{name}"')[:2])
        assert acl.startswith(f'* ACL "{name}" {{{len(owner.encode())}}}\r\n{owner} lrswipkxtecda "{BOB}" lra')
        assert f'"{owner}" lrswipkxtecda' in said(new, f'c GETACL "Other Users/{owner}/INBOX"')[0]

    def test_deleting_what_is_selected(self, place: SharingTown) -> None:
        place.share("Work/Plans", BOB, "lrx")
        bob = place.client(BOB)
        select(bob, f"{OF_ALICE}/Work/Plans")
        assert said(bob, f'a DELETE "{OF_ALICE}/Work/Plans"') == [
            "* OK [CLOSED] The mailbox is deleted.",
            "a OK Deleted.",
        ]
        assert bob.session.state is State.SIGNED_IN and held(bob) == 0

    def test_a_deleted_mailbox_takes_its_rights_along(self, place: SharingTown) -> None:
        """RFC 4314 §4, DELETE: one that is made anew under the name is another."""
        place.share("Work", BOB, "lr")
        alice, bob = place.client(ALICE), place.client(BOB)
        said(alice, "a DELETE Work")
        said(alice, "b CREATE Work")
        assert select(bob, f"{OF_ALICE}/Work") == "s NO [NONEXISTENT] There is no such mailbox."
        assert said(alice, "c GETACL Work")[0] == '* ACL "Work" "alice@example.test" lrswipkxtecda'
        assert place.town.services.shared.directory.shared_with(*place.town.accounts[BOB]) == []

    def test_a_new_mailbox_of_the_owner_inherits(self, place: SharingTown) -> None:
        """RFC 4314 §4, CREATE."""
        place.share("Work", BOB, "lr")
        alice, bob = place.client(ALICE), place.client(BOB)
        said(alice, "a CREATE Work/2027/May")
        assert said(bob, f'b MYRIGHTS "{OF_ALICE}/Work/2027"')[0].endswith('2027" lr')
        assert said(bob, f'c MYRIGHTS "{OF_ALICE}/Work/2027/May"')[0].endswith('May" lr')

    def test_renaming_keeps_the_rights(self, place: SharingTown) -> None:
        """RFC 4314 §4, RENAME; the selected mailbox goes on under its new name."""
        place.share("Work", BOB, "lr")
        alice, bob = place.client(ALICE), place.client(BOB)
        select(bob, f"{OF_ALICE}/Work")
        said(alice, "a RENAME Work Play")
        assert said(bob, "b NOOP") == ["b OK Done."]
        assert said(bob, f'c MYRIGHTS "{OF_ALICE}/Play"')[0].endswith('Play" lr')

    def test_an_own_mailbox_that_is_older_than_the_namespace(self, place: SharingTown) -> None:
        with place.town.account(BOB) as account:
            account.mailboxes.create("Other Users/Old")
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        assert select(bob, "Other Users/Old").startswith("s OK [READ-WRITE]")
        assert said(bob, 'a RENAME "Other Users/Old" Old')[-1].startswith("a OK")
        assert said(bob, 'b RENAME Old "Other Users/Old"')[-1].startswith("b NO [NOPERM]")

    def test_names_that_are_nobodys(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        for name in ("Other Users//INBOX", f"{OF_ALICE}/", f"{OF_ALICE}//INBOX", "Other Users/", "other users/x"):
            assert select(bob, name) == "s NO [NONEXISTENT] There is no such mailbox."


class TestHidden:
    """RFC 4314 §6: without a right that shows it a mailbox is for every command as if it were not there."""

    COMMANDS = r"""
        SELECT {}
        EXAMINE {}
        STATUS {} (MESSAGES)
        CREATE {}/x
        DELETE {}
        RENAME {} Mine
        RENAME Sent {}
        RENAME "Other Users/alice@example.test/Work" {}/x
        LIST "" {} RETURN (STATUS (MESSAGES) MYRIGHTS)
        LSUB "" {}
        SUBSCRIBE {}
        LIST (SUBSCRIBED) "" {}
        LIST "" "Other Users/*"
        GETACL {}
        SETACL {} bob@example.test l
        DELETEACL {} anyone
        LISTRIGHTS {} anyone
        MYRIGHTS {}
        GETMETADATA {} /shared/comment
        SETMETADATA {} (/private/comment "x")
        GETQUOTAROOT {}
        GETQUOTA {}
        ESEARCH IN (MAILBOXES {}) ALL
        ESEARCH IN (SUBTREE "Other Users") ALL
        NOTIFY SET STATUS (MAILBOXES {} (MessageNew MessageExpunge))
        NOTIFY SET STATUS (SUBTREE {} (MailboxName))
        NOTIFY NONE
        APPEND {} {2+}#hi
        APPEND Drafts CATENATE (URL "/Other%20Users/alice@example.test/NAME/;UID=1")
        SELECT INBOX
        COPY 1 {}
        MOVE 1 {}
        REPLACE 1 {} {2+}#hi
    """

    @pytest.mark.parametrize("rights", ["", "s", "wtep"])
    def test_it_is_not_there(self, place: SharingTown, rights: str) -> None:
        place.share("Work", BOB, "lrswipkxtea")
        place.share("Sent", BOB, rights)
        with place.town.account(BOB) as account:
            account.messages.append(account.mailboxes.find("INBOX").id, mail("Mine"))
        told: dict[str, list[str]] = {}
        for name in ("Sent", "Gone"):
            bob = place.client(BOB)
            for command in self.COMMANDS.strip().splitlines():
                asked = command.strip().replace("{}", f'"{OF_ALICE}/{name}"').replace("NAME", name)
                lines = said(bob, f"a {asked}".replace("#", "\r\n"))
                assert lines[-1].startswith("a ") and "SERVERBUG" not in lines[-1], (asked, lines)
                told.setdefault(name, []).extend(
                    line.replace(f"/{name}", "/…") for line in lines if "RECENT" not in line
                )
            said(bob, f'a UNSUBSCRIBE "{OF_ALICE}/{name}"')
        assert told["Sent"] == told["Gone"]


class TestChangesWhileSelected:
    """RFC 4314 §5.1.1."""

    def test_rights_that_are_taken_away(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lrswte")
        bob = place.client(BOB)
        select(bob)
        place.share("INBOX", BOB, "lrs")
        answer = said(bob, "a STORE 1 +FLAGS (\\Flagged)")
        assert answer[1] == "* OK [PERMANENTFLAGS (\\Seen)] Flags permitted."
        assert answer[2].startswith("a NO [NOPERM]")
        place.share("INBOX", BOB, "lr")
        assert "* OK [READ-ONLY] Its owner lets you read only." in said(bob, "b NOOP")
        assert said(bob, "c STORE 1 +FLAGS (\\Seen)")[-1].startswith("c NO [READ-ONLY]")

    def test_reading_that_is_taken_away_ends_the_session(self, place: SharingTown) -> None:
        for command, left in (
            ("NOOP", ""),
            ("FETCH 1 FLAGS", "l"),
            ("EXPUNGE", "lte"),
            ("IDLE", ""),
            ("SEARCH 1", "a"),
        ):
            place.share("INBOX", BOB, "lrte")
            bob = place.client(BOB)
            select(bob)
            place.share("INBOX", BOB, left)
            assert said(bob, f"a {command}") == [
                "a NO [NOPERM] The mailbox is no longer shared with you.",
                "* BYE It is no longer shared.",
            ]
            assert bob.session.state is State.ENDED and held(bob) == 0

    def test_reading_that_is_taken_away_while_the_mailbox_is_opened(
        self, place: SharingTown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(views, "_WORTH_IT", 0)  # a small mailbox, too, is opened by a worker
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        bob.decoder.feed(f'a SELECT "{OF_ALICE}/INBOX"\r\n'.encode())
        frame = bob.decoder.next_frame()
        assert isinstance(frame, Frame)
        flow, value, lines = bob.session.respond(frame), None, b""
        with suppress(StopIteration):
            while True:
                effect = flow.send(value)
                lines, value = (lines + effect, None) if isinstance(effect, bytes) else (lines, effect.run())
                if held(bob):
                    place.share("INBOX", BOB, "")
        assert lines == b"a NO [NONEXISTENT] There is no such mailbox.\r\n"
        assert bob.session.selected is None and held(bob) == 0

    def test_it_may_still_be_left(self, place: SharingTown) -> None:
        for command in ("UNSELECT", "CLOSE", "SELECT INBOX", "LOGOUT", "UNAUTHENTICATE"):
            place.share("INBOX", BOB, "lrte")
            bob = place.client(BOB)
            select(bob)
            said(bob, "x STORE 1 +FLAGS.SILENT (\\Deleted)")
            place.share("INBOX", BOB, "")
            assert said(bob, f"a {command}")[-1].startswith("a OK")
            assert held(bob) == 0
        with place.town.account(ALICE) as account:
            assert account.mailboxes.find("INBOX").messages == 2  # CLOSE has expunged nothing

    @pytest.mark.parametrize("returned", ["", " RETURN (STATUS (MESSAGES))"])
    def test_one_who_has_just_ended_keeps_nobody_elses_from_being_listed(
        self, place: SharingTown, returned: str
    ) -> None:
        """The directory was asked a moment before."""
        for owner in (ALICE, CAROL):
            place.share("INBOX", BOB, "lr", owner=owner)
        bob = place.client(BOB)
        said(bob, 'a LIST "" "*"')
        installation, (tenant_id, account_id) = place.town.installation, place.town.accounts[ALICE]
        installation.forget_account(tenant_id, account_id)
        told = said(bob, f'b LIST "" "Other*"{returned}')
        assert [line for line in told if "INBOX" in line and line.startswith("* LIST")] == [
            '* LIST (\\HasNoChildren) "/" "Other Users/carol@example.test/INBOX"'
        ]
        assert told[-1].startswith("b OK") and held(bob) == 0

    def test_an_owner_who_is_suspended(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        select(bob)
        place.town.provisioning.suspend_account(*place.town.accounts[ALICE])
        place.town.services.shared.forget(place.town.accounts[ALICE][0])
        assert said(bob, "a NOOP")[0].startswith("a NO [NOPERM]")
        again = place.client(BOB)
        assert select(again) == "s NO [NONEXISTENT] There is no such mailbox."
        assert said(again, 'b LIST "" "Other*"') == ["b OK That is all."]

    def test_a_mailbox_that_its_owner_deletes(self, place: SharingTown) -> None:
        place.share("Work", BOB, "lr")
        alice, bob = place.client(ALICE), place.client(BOB)
        select(bob, f"{OF_ALICE}/Work")
        said(alice, "a DELETE Work")
        assert said(bob, "b NOOP")[0].startswith("b NO")
        assert bob.session.state is State.ENDED and held(bob) == 0


class TestMemory:
    """What a worker remembers of what is shared with whom."""

    def test_it_asks_once_until_something_is_told(self, place: SharingTown, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(other_users, "_KEPT", 2)
        place.share("INBOX", "anyone", "lr")
        shared = place.town.services.shared
        clients = [place.client(who) for who in (BOB, CAROL, ALICE, MALLORY)]
        for client in clients:
            said(client, 'a LIST "" "Other Users/*"')
        assert len(shared) == 2  # the oldest went
        shared.forget(place.town.accounts[MALLORY][0])
        assert len(shared) == 1
        assert len(said(clients[0], 'b LIST "" "Other Users/*"')) == 3
        shared.forget()
        shared.forget(place.town.accounts[BOB][0])
        assert len(shared) == 0

    def test_rights_are_counted_too(self, place: SharingTown, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(other_users, "_KEPT_RIGHTS", 3)
        for mailbox in ("INBOX", "Work", "Sent"):
            place.share(mailbox, "anyone", "lr")
        shared = place.town.services.shared
        clients = [place.client(who) for who in (BOB, CAROL, MALLORY)]
        for client in clients:
            assert said(client, 'a LIST "" "Other Users/*"')[-1].startswith("a OK")
        assert len(shared) == 2  # what is shared with Carol fills it
        shared.forget()
        assert len(said(clients[0], 'b LIST "" "Other Users/*/*"')) == 4

    def test_an_answer_that_may_be_older_is_not_kept(self, place: SharingTown) -> None:
        shared, user = place.town.services.shared, place.town.principal(BOB)
        asked = shared.of(user)
        work = next(asked)
        assert isinstance(work, Work)
        answer = work.run()
        shared.forget(user.tenant_id)  # a change is told while the answer is under way
        with pytest.raises(StopIteration) as done:
            asked.send(answer)
        assert done.value.value is answer and len(shared) == 0


class TestOthersTrouble:
    """What goes wrong with one stays with him."""

    def test_an_account_that_cannot_be_read(self, place: SharingTown) -> None:
        """Those with whom it shares something see their own mailboxes all the same."""
        place.share("INBOX", "anyone", "lr")
        place.share("INBOX", "anyone", "lr", owner=CAROL)
        tenant_id, alice_id = place.town.accounts[ALICE]
        place.town.installation._accounts.close()
        path = place.town.data / "tenants" / str(tenant_id) / "accounts" / str(alice_id) / "account.db"
        path.write_bytes(b"x" * 8192)
        place.town.installation._accounts = AccountPool(place.town.installation._open_account, 9)
        bob = place.client(BOB)
        listed = said(bob, 'a LIST "" "*"')
        assert listed[0].endswith('"INBOX"') and listed[-1].startswith("a OK")
        assert any(CAROL in line for line in listed) and not any(ALICE in line for line in listed)
        assert select(bob).startswith("s NO [")

    def test_a_mailbox_that_cannot_be_shared_as_it_should_is_not_made(
        self, place: SharingTown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.share("Work", BOB, "lrk")
        monkeypatch.setattr(mailbox_rights, "PER_OWNER", 2)
        with place.town.account(ALICE) as account:
            before = [mailbox.name for mailbox in account.mailboxes.list()]
            for who, name in ((ALICE, "Work/a/b/c"), (BOB, f"{OF_ALICE}/Work/a/b/c")):
                assert said(place.client(who), f'a CREATE "{name}"')[-1].startswith("a NO [LIMIT]")
            assert [mailbox.name for mailbox in account.mailboxes.list()] == before

    def test_a_search_holds_one_account_at_a_time(self, place: SharingTown) -> None:
        for owner in (ALICE, CAROL):
            place.share("INBOX", BOB, "lr", owner=owner)
            place.share("Sent", BOB, "lr", owner=owner)
        bob = place.client(BOB)
        bob.decoder.feed(b'a ESEARCH IN (SUBTREE "Other Users") RETURN (COUNT) ALL\r\n')
        frame = bob.decoder.next_frame()
        assert isinstance(frame, Frame)
        flow, open_at_once, lines, value = bob.session.respond(frame), 0, b"", None
        with suppress(StopIteration):
            while True:
                effect = flow.send(value)
                lines, value = (lines + effect, None) if isinstance(effect, bytes) else (lines, effect.run())
                open_at_once = max(open_at_once, held(bob))
        assert open_at_once == 1 and lines.count(b"* ESEARCH") == 1 and lines.endswith(b"a OK Searched.\r\n")


class TestWhoseItIs:
    def test_tenants_are_apart(self, place: SharingTown) -> None:
        place.share("INBOX", "anyone", "lrswipkxtea")
        mallory = place.client(MALLORY)
        assert said(mallory, 'a LIST "" "*"')[0] == '* LIST (\\HasNoChildren) "/" "INBOX"'
        assert not any("Other Users" in line for line in said(mallory, 'b LIST "" "*"'))
        for command in ("SELECT", "STATUS", "MYRIGHTS", "GETACL", "DELETE"):
            tail = " (MESSAGES)" if command == "STATUS" else ""
            assert said(mallory, f'c {command} "{OF_ALICE}/INBOX"{tail}')[-1].startswith("c NO [NONEXISTENT]")
        assert said(mallory, f'd SETACL "{OF_ALICE}/INBOX" mallory@other.test lr')[0].startswith("d NO [NONEXISTENT]")
        assert said(mallory, "e SETACL INBOX alice@example.test lr")[0].startswith("e NO [NONEXISTENT]")
        assert said(mallory, f'f APPEND "{OF_ALICE}/INBOX" {{2+}}\r\nhi')[0].startswith("f NO [TRYCREATE]")
        assert select(place.client(CAROL)).startswith("s OK [READ-WRITE]")  # anyone is everybody of the tenant

    def test_a_row_of_anyone_adds_to_ones_own(self, place: SharingTown) -> None:
        """RFC 4314 §2: the union."""
        place.share("INBOX", "anyone", "lr")
        place.share("INBOX", BOB, "sw")
        assert said(place.client(BOB), f'a MYRIGHTS "{OF_ALICE}/INBOX"')[0].endswith('INBOX" lrsw')
        assert said(place.client(CAROL), f'a MYRIGHTS "{OF_ALICE}/INBOX"')[0].endswith('INBOX" lr')

    def test_a_copy_stays_when_its_source_is_erased(self, place: SharingTown) -> None:
        """It is written anew, under the key of the account in which it lies."""
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        select(bob)
        assert said(bob, "a COPY 1:2 INBOX")[-1].startswith("a OK [COPYUID")
        assert said(bob, "b UNSELECT")[-1].startswith("b OK")
        end_account(place.town.installation, *place.town.accounts[ALICE])
        place.town.services.shared.forget()
        assert select(bob) == "s NO [NONEXISTENT] There is no such mailbox."
        assert select(bob, "INBOX").startswith("s OK")
        assert "Subject: Two" in said(bob, "c FETCH 2 BODY[HEADER]")
        with place.town.account(BOB) as account:
            assert account.usage().messages == 2

    def test_a_copy_is_written_in_slices(self, place: SharingTown) -> None:
        """RFC 9051 §6.4.7: all or nothing, also when the client leaves; RFC 9585 §4: how far it is, in between."""
        with place.town.account(ALICE) as account:
            inbox = account.mailboxes.find("INBOX").id
            account.messages.append_many(inbox, [NewMessage(mail(f"Copied {n}")) for n in range(60)], many=True)
        place.share("INBOX", BOB, "lrte")
        bob = place.client(BOB)
        select(bob)
        with place.town.account(BOB) as account:
            for command in (b"a COPY 1:62 INBOX", b"b UID MOVE 1:* INBOX"):
                flow = bob.session.respond(Frame(command))
                work = next(effect for effect in flow if isinstance(effect, Work))
                place.town.clock.advance(11)
                assert b'[INPROGRESS ("%c" 50 62)]' % command[0] in flow.send(work.run())
                assert account.usage().messages == 0  # nothing is seen of it yet
                flow.close()  # the client hangs up
                account.background.settle()
                assert account.usage().messages == 0 and list(account.maildir.names("new")) == []
            assert said(bob, "c UID MOVE 1:* INBOX")[-1].startswith("c OK")
            assert account.usage().messages == 62
        with place.town.account(ALICE) as account:
            assert account.usage().messages == 0

    def test_a_copy_into_a_mailbox_that_is_deleted_meanwhile(self, place: SharingTown) -> None:
        """RFC 9051 §6.4.7: what was written so far goes, and the client may make the mailbox anew."""
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        select(bob)
        with place.town.account(BOB) as account:
            target = account.mailboxes.create("Target")
            told = interrupted(bob, "COPY 1:2 Target", lambda: account.mailboxes.delete(target.name))
            assert told == ["a NO [TRYCREATE] There is no such mailbox."]
            account.background.settle()
            assert account.usage().messages == 0 and list(account.maildir.names("new")) == []

    def test_who_is_charged(self, place: SharingTown) -> None:
        """What is put into a shared mailbox its owner stores; what is copied out of it the one who copies."""
        tenant_id, alice_id = place.town.accounts[ALICE]
        place.town.provisioning.set_quota(tenant_id, alice_id, quota_bytes=0, quota_messages=3)
        place.share("INBOX", BOB, "lrite")
        bob = place.client(BOB)
        select(bob)
        with place.town.account(BOB) as account:
            account.messages.append(account.mailboxes.find("Sent").id, mail("Mine"))
            assert said(bob, f'a APPEND "{OF_ALICE}/INBOX" {{13+}}\r\nSubject: x\r\n\r')[-1].startswith("a OK")
            assert account.usage().messages == 1
            select(bob, "Sent")
            assert said(bob, f'b COPY 1 "{OF_ALICE}/INBOX"')[-1].startswith("b NO [OVERQUOTA]")
            select(bob)
            account.limits = Limits(messages=2)
            assert said(bob, "c COPY 1:3 INBOX")[-1].startswith("c NO [OVERQUOTA]")
            assert account.usage().messages == 1
            assert said(bob, "d MOVE 3 INBOX")[-1].startswith("d OK")
            assert account.usage().messages == 2
        with place.town.account(ALICE) as account:
            assert account.usage().messages == 2

    def test_the_owner_sees_who_opened_it(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lr")
        bob = place.client(BOB)
        for _ in range(3):
            select(bob)
        tenant_id, alice_id = place.town.accounts[ALICE]
        place.town.installation.flush_logs()
        now = place.town.clock.now()
        read = place.town.installation.access_log.read(now - 60, now + 60, tenant=tenant_id, account=alice_id)
        events = [event for event in read if event.type == AccessType.MAILBOX_OPEN]
        assert [(event.by_account, event.address, event.result) for event in events] == [
            (place.town.accounts[BOB][1], "", "success")
        ]

    def test_reports_and_archives_tell_of_it(self, place: SharingTown, tmp_path: Path) -> None:
        place.share("INBOX", BOB, "lr")
        place.share("Sent", "anyone", "l")
        select(place.client(BOB))
        installation = place.town.installation
        installation.flush_logs()
        told = {who: list(shares(seek(installation, EmailAddress.parse(who)))) for who in (ALICE, BOB, CAROL)}
        assert [(row["shared"], row["rights"]) for row in told[ALICE]] == [
            ("by this account", "lr"),
            ("by this account", "l"),
        ]
        assert [(row["shared"], row["rights"]) for row in told[BOB]] == [("with this account", "lr")]
        assert told[CAROL] == []
        opened = [row for row in access(seek(installation, EmailAddress.parse(BOB))) if row["type"] == "mailbox_open"]
        assert len(opened) == 1 and ALICE not in str(opened)
        [seen] = [row for row in access(seek(installation, EmailAddress.parse(ALICE))) if row["type"] == "mailbox_open"]
        assert (seen["by"], seen["client_address"]) == (BOB, "")
        tenant = installation.tenant(place.town.accounts[ALICE][0])
        with place.town.account(ALICE) as account:
            document = of_the_account(tenant, tenant.account(account.account_id), account)
        rights = [(row["mailbox"], row["identifier"], row["rights"]) for row in document["mailbox_rights"]]
        assert rights == [("INBOX", BOB, "lr"), ("Sent", "anyone", "l")]

    def test_rows_of_what_was_deleted_otherwise_are_tidied_up(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lr")
        place.share("Work", BOB, "lr")
        with place.town.account(ALICE) as account:
            account.mailboxes.delete("Work")
        bob = place.client(BOB)
        assert len(said(bob, 'a LIST "" "Other Users/*/*"')) == 2  # it is not there, whatever the row says
        tenant_id, alice_id = place.town.accounts[ALICE]
        FeedRound(place.town.installation, Config(), make_fetcher).work(tenant_id, alice_id)
        assert len(place.town.installation.tenant(tenant_id).mailbox_rights.of_owner(alice_id)) == 1

    def test_an_account_that_is_built_anew_shares_nothing(self, place: SharingTown) -> None:
        """Its mailboxes have other numbers."""
        place.share("Work", BOB, "lr")
        place.share("INBOX", ALICE, "lr", owner=CAROL)
        installation = place.town.installation
        tenant_id, alice_id = place.town.accounts[ALICE]
        rights = installation.tenant(tenant_id).mailbox_rights
        subscriber = Subscriber(place.town.data, place.town.clock)
        subscriber.drain()
        installation._accounts.close()
        assert rebuild(installation, tenant_id, alice_id).messages == 2
        assert rights.of_owner(alice_id) == [] and len(rights.shared_with(alice_id)) == 1
        assert RightsChanged(tenant_id, alice_id) in subscriber.drain()
        subscriber.close()

    def test_in_the_last_days_of_a_contract_nothing_is_changed(self, place: SharingTown) -> None:
        place.share("INBOX", BOB, "lrswite")
        bob = place.client(BOB)
        bob.session.principal = replace(bob.session.user, read_only_from=1)
        assert select(bob).startswith("s OK [READ-ONLY]")
        assert said(bob, "a SETACL INBOX carol@example.test lr")[0].startswith("a NO [NOPERM]")
        assert said(bob, f'b APPEND "{OF_ALICE}/INBOX" {{2+}}\r\nhi')[0].startswith("b NO [NOPERM]")
