"""NOTIFY (RFC 5465): what is told when, to whom, and to nobody else. On the core, and once on sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, SocketClient, play
from imap_server import running_server
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.decoder import Frame
from hosting.imap.effects import Work
from hosting.imap.news.interests import NAME, NEW, Interests
from hosting.imap.news.notify_grammar import Group
from hosting.imap.news.watches import Watch
from storage.changes import AccountChanged, RightsChanged, Subscriber
from storage.mail.messages import NewMessage
from storage.values import SEEN, AccountId, UidSet

ALICE, BOB = "alice@example.test", "bob@example.test"
SELECTED = "NOTIFY SET (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))"


class House:
    """Clients of the core, and the change feed as the service of a worker would read it."""

    def __init__(self, town: MailTown) -> None:
        self.town = town
        self.subscriber = Subscriber(town.data, town.clock)
        self.clients: list[CoreClient] = []

    def client(self, commands: str = "", *, select: str = "", user: str = ALICE) -> CoreClient:
        made = CoreClient(self.town.services)
        made.session.wake = lambda: None
        self.clients.append(made)
        made.send(f'x LOGIN {user} "{PASSWORD}"\r\n{commands}'.encode())
        if select:
            made.send(f"y SELECT {select}\r\n".encode())
        made.receive(0)
        return made

    def hear(self) -> None:
        """What was committed reaches everybody."""
        watches = self.town.services.watches
        changes = self.subscriber.drain()
        if any(isinstance(change, RightsChanged | AccountChanged) for change in changes):
            self.town.services.shared.forget()
        for watch in watches.changed(changes):
            watch.take(Watch.read(watch.account))
        for client in self.clients:
            if not client.closed:
                client.look()

    def deliver(self, *subjects: str, mailbox: str = "INBOX", user: str = ALICE) -> None:
        with self.town.account(user) as account:
            found = account.mailboxes.find(mailbox)
            account.messages.append_many(found.id, [NewMessage(mail(subject)) for subject in subjects])
        self.hear()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        assert len(self.town.services.watches) == 0
        self.subscriber.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_mail_town(tmp_path) as town:
        made = House(town)
        made.deliver("One", "Two", "Three")
        yield made
        made.close()


def told(client: CoreClient) -> list[str]:
    return client.receive(0)


def set_flags(house: House, uids: UidSet, flags: int = SEEN, *, mailbox: str = "INBOX") -> None:
    with house.town.account() as account:
        account.messages.store(account.mailboxes.find(mailbox).id, uids, "add", flags)
    house.hear()


def expunge(house: House, uids: UidSet, *, mailbox: str = "INBOX") -> None:
    with house.town.account() as account:
        account.messages.expunge(account.mailboxes.find(mailbox).id, uids, only_deleted=False)
    house.hear()


# --- the command ---

COMMANDS = [
    ("NONE (§3.1)", "C: a NOTIFY NONE\nS: a OK Nothing will be told."),
    ("of several groups (§8)", "C: a notify set (personal (mailboxname)) (subtree (a b) NONE)\nS: a OK …"),
    (
        "STATUS for all but the selected mailbox (§3.1)",
        """
        C: a NOTIFY SET STATUS (MAILBOXES (INBOX Sent Nowhere) (MessageNew MessageExpunge FlagChange))
        S: * STATUS "INBOX" (UIDVALIDITY … UIDNEXT 4 MESSAGES 3 UNSEEN 3 HIGHESTMODSEQ …)
        S: * STATUS "Sent" (UIDVALIDITY … UIDNEXT 1 MESSAGES 0 UNSEEN 0 HIGHESTMODSEQ …)
        S: a OK …
        C: b SELECT INBOX
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * 3 EXISTS
        S: * 3 RECENT
        S: * OK [UNSEEN 1] …
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID …
        S: b OK …
        C: c NOTIFY SET STATUS (MAILBOXES (INBOX Sent) (MessageNew MessageExpunge))
        S: * STATUS "Sent" (UIDVALIDITY … UIDNEXT 1 MESSAGES 0)
        S: c OK …
        """,
    ),
    (
        "unknown events are refused with those that are known (§3.1)",
        """
        C: a NOTIFY SET (PERSONAL (MessageNew MessageExpunge AnnotationChange))
        S: a NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange …)] …
        C: b NOTIFY SET (PERSONAL (SomethingElse))
        S: b NO [BADEVENT (…
        """,
    ),
    (
        "events that need each other (§5)",
        """
        C: a NOTIFY SET (PERSONAL (MessageNew))
        S: a BAD …
        C: b NOTIFY SET (PERSONAL (MessageExpunge))
        S: b BAD …
        C: c NOTIFY SET (SELECTED (FlagChange))
        S: c BAD …
        """,
    ),
    (
        "what may not stand together (§6.1, §8)",
        """
        C: a NOTIFY SET (SELECTED (MailboxName))
        S: a BAD …
        C: b NOTIFY SET (SELECTED NONE) (SELECTED-DELAYED NONE)
        S: b BAD …
        C: c NOTIFY SET (PERSONAL (MessageNew (UID) MessageExpunge))
        S: c BAD …
        C: d NOTIFY SET (SELECTED (MessageNew (UID BOGUS) MessageExpunge))
        S: d BAD …
        """,
    ),
    (
        "without a beginning or an end",
        """
        C: a NOTIFY
        S: a BAD …
        C: b NOTIFY SET
        S: b BAD …
        C: c NOTIFY SET STATUS
        S: c BAD …
        C: d NOTIFY SET (PERSONAL (
        S: d BAD …
        C: e NOTIFY SET (ALL NONE)
        S: e BAD …
        C: f NOTIFY SET (MAILBOXES () NONE)
        S: f BAD …
        C: g NOTIFY NONE NONE
        S: g BAD …
        C: h NOTIFY SET ((((((((((((
        S: h BAD …
        """,
    ),
]


@pytest.mark.parametrize(("name", "dialogue"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_notify(name: str, dialogue: str, house: House) -> None:
    client = house.client()
    play(client, dialogue)


def test_notify_needs_a_user(house: House) -> None:
    client = CoreClient(house.town.services)
    client.receive(0)
    play(client, "C: a NOTIFY NONE\nS: a BAD …")


def test_too_much_is_refused(house: House) -> None:
    """§3.1: what would be too expensive."""
    client = house.client()
    names = " ".join(f"n{number}" for number in range(1001))
    play(client, f"C: a NOTIFY SET (MAILBOXES ({names}) NONE)\nS: a NO [NOTIFICATIONOVERFLOW] …")
    groups = " ".join(["(PERSONAL NONE)"] * 101)
    play(client, f"C: b NOTIFY SET {groups}\nS: b NO [NOTIFICATIONOVERFLOW] …")


def test_only_what_is_short_is_compiled_once_for_all() -> None:
    """What one client asks for at length is gone with it."""
    short = (Group("PERSONAL", events=frozenset({"MESSAGENEW"})),)
    long = (Group("MAILBOXES", tuple(f"name {number}" for number in range(900)), frozenset({"MESSAGENEW"})),)
    assert Interests.of(short) is Interests.of((Group("PERSONAL", events=frozenset({"MESSAGENEW"})),))
    assert Interests.of(long) is not Interests.of(long)


def test_rfc_5465_6_5_a_subtree_begins_at_its_root() -> None:
    roots = (
        Group("SUBTREE", ("a/b", "c"), frozenset({"MESSAGENEW"})),
        Group("SUBTREE", ("c",), frozenset({"MAILBOXNAME"})),
    )
    wanted = [
        Interests.of(roots).of_mailbox(name, is_own=True, is_subscribed=True)
        for name in ("a", "a/b", "a/b/x/y", "a/bc", "c", "c/d", "", "/c")
    ]
    assert wanted == [0, NEW, NEW, 0, NEW | NAME, NEW | NAME, 0, 0]


# --- the selected mailbox ---


def test_new_messages_are_told_between_commands_with_what_was_asked_for(house: House) -> None:
    """§5.2: EXISTS, then FETCH; §3.1: without a command."""
    client = house.client(select="INBOX")
    play(client, f"C: a {SELECTED}\nS: a OK …")
    house.deliver("Four", "Five")
    assert told(client) == [
        "* 5 EXISTS", "* 5 RECENT",
        "* 4 FETCH (UID 4 BODY[HEADER.FIELDS (SUBJECT)] {17}", "Subject: Four", "", ")",
        "* 5 FETCH (UID 5 BODY[HEADER.FIELDS (SUBJECT)] {17}", "Subject: Five", "", ")",
    ]  # fmt: skip
    house.hear()
    assert told(client) == []


def test_flags_and_expunges_are_told_between_commands(house: House) -> None:
    """§5.1 and §5.3."""
    client = house.client(select="INBOX")
    play(client, f"C: a {SELECTED}\nS: a OK …")
    set_flags(house, UidSet.of([2]))
    assert told(client) == ["* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent))"]
    expunge(house, UidSet.of([1]))
    assert told(client) == ["* 1 EXPUNGE"]
    play(client, "C: b FETCH 1 (UID)\nS: * 1 FETCH (UID 2)\nS: b OK …")


def test_with_qresync_vanished_is_told_and_uids_always(house: House) -> None:
    """§5.3, RFC 7162 §3.2.10; with IMAP4rev2 there is no RECENT."""
    client = house.client("q ENABLE QRESYNC IMAP4rev2\r\n", select="INBOX")
    play(client, "C: a NOTIFY SET (SELECTED (MessageNew (FLAGS) MessageExpunge FlagChange))\nS: a OK …")
    expunge(house, UidSet.of([1, 3]))
    house.deliver("Four")
    set_flags(house, UidSet.of([2]))
    lines = told(client)
    assert lines[:3] == ["* VANISHED 1,3", "* 2 EXISTS", "* 2 FETCH (UID 4 FLAGS ())"]
    assert lines[3].startswith("* 1 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (") and len(lines) == 4


def test_selected_delayed_keeps_numbers_until_a_command_may_change_them(house: House) -> None:
    """§6.1.2; §4: in IDLE everything is told."""
    client = house.client(select="INBOX")
    play(client, "C: a NOTIFY SET (SELECTED-DELAYED (MessageNew (UID) MessageExpunge FlagChange))\nS: a OK …")
    expunge(house, UidSet.of([1]))
    assert told(client) == []
    house.deliver("Four")
    assert told(client) == ["* 4 EXISTS", "* 4 RECENT", "* 4 FETCH (UID 4)"]
    play(client, "C: b FETCH 2 (UID)\nS: * 2 FETCH (UID 2)\nS: b OK …")
    play(client, "C: c NOOP\nS: * 1 EXPUNGE\nS: c OK …")
    play(client, "C: d IDLE\nS: + idling")
    expunge(house, UidSet.of([2]))
    assert told(client) == ["* 1 EXPUNGE"]
    play(client, "C: DONE\nS: d OK …")


def test_numbers_hold_within_the_answer_to_a_command(house: House) -> None:
    """§5.3 lets numbers change between commands; an answer by number never has an EXPUNGE (RFC 9051 §7.5.1)."""
    client = house.client(select="INBOX")
    play(client, f"C: a {SELECTED}\nS: a OK …")
    with house.town.account() as account:
        account.messages.expunge(account.mailboxes.find("INBOX").id, UidSet.of([1]), only_deleted=False)
    play(client, "C: b FETCH 2:3 (UID)\nS: * 2 FETCH (UID 2)\nS: * 3 FETCH (UID 3)\nS: b OK …")
    play(client, "C: c STORE 2 +FLAGS (\\Flagged)\nS: * 2 FETCH (UID 2 FLAGS (\\Flagged …\nS: c OK …")
    house.hear()
    assert told(client) == ["* 1 EXPUNGE"]


def test_nothing_is_told_while_a_command_is_arriving(house: House) -> None:
    client = house.client(select="INBOX")
    play(client, f"C: a {SELECTED}\nS: a OK …")
    client.send(b"b SEARCH SUBJECT {3}\r\n")
    assert told(client) == ["+ OK"]
    house.deliver("Four")
    assert told(client) == []
    client.send(b"One\r\n")
    assert told(client)[0] == "* SEARCH 1"
    house.hear()
    assert "* 4 EXISTS" in told(client)


def test_what_is_not_asked_for_is_not_told(house: House) -> None:
    """§3.1: without SELECTED, or with NONE, nothing; not even in NOOP. A snapshot."""
    for commands in ("NOTIFY NONE", "NOTIFY SET (SELECTED NONE)", "NOTIFY SET (PERSONAL (MailboxName))"):
        client = house.client(select="INBOX")
        play(client, f"C: a {commands}\nS: a OK …")
        house.deliver("More")
        set_flags(house, UidSet.of([2]))
        play(client, "C: b NOOP\nS: b OK …\nC: c IDLE\nS: + idling")
        assert told(client) == []
        play(client, "C: DONE\nS: c OK …")
        with house.town.account() as account:
            account.messages.store(account.mailboxes.find("INBOX").id, UidSet.of([2]), "remove", SEEN)
        house.hear()


def test_notify_set_is_an_implicit_noop(house: House) -> None:
    """§3.1: what had accumulated is told at once, by the new wishes."""
    client = house.client(select="INBOX")
    play(client, "C: a NOTIFY NONE\nS: a OK …")
    house.deliver("Four")
    expunge(house, UidSet.of([2]))
    assert told(client) == []
    play(
        client,
        """
        C: b NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))
        S: * 2 EXPUNGE
        S: * 3 EXISTS
        S: * 3 RECENT
        S: * 3 FETCH (UID 4)
        S: b OK …
        """,
    )


def test_what_the_session_brings_itself_is_not_fetched(house: House) -> None:
    """§5.2: no FETCH for what came by the client's own APPEND."""
    client = house.client(select="INBOX")
    play(client, f"C: a {SELECTED}\nS: a OK …")
    message = mail("Mine")
    client.send(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
    assert [line.split()[1:3] for line in told(client)] == [["4", "EXISTS"], ["4", "RECENT"], ["OK", "[APPENDUID"]]
    house.hear()
    assert told(client) == []


def test_updated_searches_fetch_what_joins_them(house: House) -> None:
    """§7: of new messages, not of flags that changed; with what NOTIFY asks for it is one response (§5.2)."""
    client = house.client(select="INBOX")
    play(
        client,
        """
        C: a UID SEARCH RETURN (COUNT UPDATE (UID BODY.PEEK[HEADER.FIELDS (TO)])) SUBJECT Four UNFLAGGED
        S: * ESEARCH (TAG "a") UID COUNT 0
        S: a OK …
        C: b SEARCH RETURN (UPDATE ()) ALL
        S: b BAD …
        """,
    )
    house.deliver("Four", "Five")
    play(
        client,
        """
        C: c NOOP
        S: * 5 EXISTS
        S: * 5 RECENT
        S: * ESEARCH (TAG "a") UID ADDTO (0 4)
        S: * 4 FETCH (UID 4 BODY[HEADER.FIELDS (TO)] {26}
        S: To: alice@example.test
        S:
        S: )
        S: c OK …
        C: d NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge))
        S: d OK …
        """,
    )
    house.deliver("Four")
    lines = told(client)
    assert lines[:3] == ["* 6 EXISTS", "* 6 RECENT", '* ESEARCH (TAG "a") UID ADDTO (0 6)']
    assert lines[3] == "* 6 FETCH (UID 6 FLAGS (\\Recent) BODY[HEADER.FIELDS (TO)] {26}" and len(lines) == 7


def test_what_others_bring_meanwhile_is_fetched(house: House) -> None:
    """§5.2: in the answer to the own APPEND or MOVE, too."""
    client = house.client(select="INBOX")
    play(client, "C: a NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))\nS: a OK …")
    with house.town.account() as account:
        account.messages.append(account.mailboxes.find("INBOX").id, mail("Theirs"))
    message = mail("Mine")
    client.send(b"b APPEND INBOX {%d+}\r\n%b {%d+}\r\n%b\r\n" % (len(message), message, len(message), message))
    assert told(client)[:3] == ["* 6 EXISTS", "* 6 RECENT", "* 4 FETCH (UID 4)"]
    play(
        client,
        """
        C: c UID MOVE 4 INBOX
        S: * OK [COPYUID … 4 7] Moved.
        S: * 4 EXPUNGE
        S: * 6 EXISTS
        S: * 6 RECENT
        S: c OK …
        """,
    )
    house.hear()
    assert told(client) == []


def test_a_new_view_of_another_mailbox_is_told_by_the_same_wishes(house: House) -> None:
    """§3.1: SELECTED is whatever is selected at the time."""
    client = house.client()
    play(client, f"C: a {SELECTED}\nS: a OK …")
    client.send(b"b SELECT Sent\r\n")
    told(client)
    house.deliver("Four")
    assert told(client) == []
    house.deliver("One", mailbox="Sent")
    assert told(client)[0] == "* 1 EXISTS"


# --- other mailboxes ---


def test_messages_of_other_mailboxes_are_a_status(house: House) -> None:
    """§5.2, §5.3: UIDNEXT and MESSAGES; many changes are one."""
    client = house.client(select="INBOX")
    play(client, "C: a NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\nS: a OK …")
    house.deliver("One", "Two", mailbox="Sent")
    (line,) = told(client)
    assert line.startswith('* STATUS "Sent" (UIDVALIDITY ') and line.endswith("UIDNEXT 3 MESSAGES 2)")
    expunge(house, UidSet.of([1]), mailbox="Sent")
    (line,) = told(client)
    assert line.endswith("UIDNEXT 3 MESSAGES 1)")
    set_flags(house, UidSet.of([2]), mailbox="Sent")
    house.deliver("Four")  # selected: not its business
    assert told(client) == []


def test_flags_of_other_mailboxes(house: House) -> None:
    """§5.1: UNSEEN, and with CONDSTORE HIGHESTMODSEQ."""
    plain = house.client()
    condstore = house.client("q ENABLE CONDSTORE\r\n")
    for client in (plain, condstore):
        play(client, "C: a NOTIFY SET (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))\nS: a OK …")
    set_flags(house, UidSet.of([1]))
    assert told(plain)[0].endswith("UNSEEN 2)")
    assert "UNSEEN 2 HIGHESTMODSEQ" in told(condstore)[0]
    set_flags(house, UidSet.of([1]), 1 << 1)
    assert told(plain) == [] and "HIGHESTMODSEQ" in told(condstore)[0]


def test_only_whom_it_concerns_is_touched(house: House) -> None:
    """Watchers are found by account; of another's account nobody hears."""
    alice, bob = house.client(), house.client(user=BOB)
    for client in (alice, bob):
        play(client, "C: a NOTIFY SET (PERSONAL (MessageNew MessageExpunge MailboxName))\nS: a OK …")
    house.deliver("Four")
    assert len(told(alice)) == 1 and told(bob) == []


def test_subtrees_names_and_subscriptions(house: House) -> None:
    """§6.4, §6.5, §6.6: a name is no pattern; subscriptions count as they are at the time."""
    with house.town.account() as account:
        for name in ("Sent", "Drafts"):
            account.mailboxes.unsubscribe(name)
        for name in ("Lists/a", "Listsen", "Other"):
            account.mailboxes.create(name)
    house.hear()
    client = house.client()
    events = "(MessageNew MessageExpunge)"
    play(
        client,
        f'C: a NOTIFY SET (SUBTREE Lists {events}) (MAILBOXES ("Sen*" Drafts) {events}) (SUBSCRIBED {events})\n'
        "S: a OK …",
    )
    for mailbox in ("Lists", "Lists/a", "Listsen", "Other", "Drafts", "INBOX"):
        house.deliver("x", mailbox=mailbox)
    assert [line.split('"')[1] for line in told(client)] == ["Lists", "Lists/a", "Drafts", "INBOX"]
    with house.town.account() as account:
        account.mailboxes.subscribe("Other")
        account.mailboxes.unsubscribe("INBOX")
    house.hear()
    house.deliver("x", mailbox="Other")
    house.deliver("x")
    assert [line.split('"')[1] for line in told(client)] == ["Other"]


def test_names(house: House) -> None:
    """§5.4: made, deleted, renamed, with parents and OLDNAME; children are not told of."""
    client = house.client()
    play(client, "C: a NOTIFY SET (PERSONAL (MailboxName))\nS: a OK …")
    with house.town.account() as account:
        account.mailboxes.create("Work/2026")
        house.hear()
        assert sorted(told(client)) == [
            '* LIST (\\HasChildren) "/" "Work"', '* LIST (\\HasNoChildren) "/" "Work/2026"',
        ]  # fmt: skip
        account.mailboxes.rename("Work", "Büro")
        house.hear()
        assert told(client) == ['* LIST (\\HasChildren) "/" "B&APw-ro" ("OLDNAME" ("Work"))']
        account.mailboxes.delete("Büro/2026")
        house.hear()
        assert told(client) == [
            '* LIST (\\HasNoChildren \\NonExistent) "/" "B&APw-ro/2026"', '* LIST (\\HasNoChildren) "/" "B&APw-ro"',
        ]  # fmt: skip


def test_subscriptions(house: House) -> None:
    r"""§5.5: LIST, with \Subscribed if it is."""
    client = house.client()
    play(client, "C: a NOTIFY SET (PERSONAL (SubscriptionChange))\nS: a OK …")
    with house.town.account() as account:
        account.mailboxes.unsubscribe("Sent")
        house.hear()
        assert told(client) == ['* LIST (\\HasNoChildren \\Sent) "/" "Sent"']
        account.mailboxes.subscribe("Sent")
        house.hear()
        assert told(client) == ['* LIST (\\Subscribed \\HasNoChildren \\Sent) "/" "Sent"']
        account.mailboxes.create("Silent")
        house.hear()
        assert told(client) == []


def test_annotations(house: House) -> None:
    """§5.6, §5.7: names of entries; without ENABLE METADATA."""
    client, other = house.client(), house.client()
    play(client, "C: a NOTIFY SET (PERSONAL (MailboxMetadataChange ServerMetadataChange))\nS: a OK …")
    play(other, 'C: b SETMETADATA INBOX (/shared/comment "x" /private/comment "y")\nS: b OK …')
    play(other, 'C: c SETMETADATA "" (/private/comment "z")\nS: c OK …')
    house.hear()
    assert sorted(told(client)) == [
        '* METADATA "" "/private/comment"', '* METADATA "INBOX" "/private/comment" "/shared/comment"',
    ]  # fmt: skip


def test_the_own_doing_is_no_news(house: House) -> None:
    """§5: the others hear of it."""
    one, other = house.client(), house.client()
    for client in (one, other):
        events = "(MessageNew MessageExpunge MailboxName SubscriptionChange MailboxMetadataChange)"
        play(client, f"C: a NOTIFY SET (PERSONAL {events})\nS: a OK …")
    play(one, "C: b CREATE New/Inner\nS: b OK …\nC: c RENAME New Old\nS: c OK …\nC: d SUBSCRIBE Old\nS: d OK …")
    message = mail("Mine")
    one.send(b"e APPEND Sent {%d+}\r\n%b\r\n" % (len(message), message))
    assert told(one)[0].startswith("e OK")
    play(one, 'C: f SETMETADATA Sent (/private/comment "x")\nS: f OK …')
    house.hear()
    assert told(one) == []
    lines = told(other)
    assert any("Old" in line for line in lines) and any("STATUS" in line for line in lines)
    assert any("METADATA" in line for line in lines)


def test_too_much_to_tell_ends_it(house: House) -> None:
    """§5.8: as after NOTIFY NONE."""
    client = house.client()
    play(client, "C: a NOTIFY SET (PERSONAL (MailboxName))\nS: a OK …")
    listener = client.session.listening
    (watch,) = house.town.services.watches._accounts.values()  # type: ignore[attr-defined]
    for number in range(2001):
        listener.name_changed(watch, 1, f"n{number}", None)  # type: ignore[union-attr]
    client.look()
    (line,) = told(client)
    assert line.startswith("* OK [NOTIFICATIONOVERFLOW]")
    house.deliver("Four")
    assert told(client) == []


def test_a_session_without_news_keeps_nothing(house: House) -> None:
    clients = [house.client(select="INBOX") for _ in range(3)]
    for client in clients:
        play(client, "C: a NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (PERSONAL (MailboxName))\nS: a OK …")
    listeners = [client.session.listening for client in clients]
    assert len({id(each._interests) for each in listeners}) == 1  # type: ignore[union-attr]
    assert len({id(each._own) for each in listeners}) == 1  # type: ignore[union-attr]
    house.deliver("Four", mailbox="Sent")
    assert all(each._news is None for each in listeners)  # type: ignore[union-attr]


# --- mailboxes of others ---


def share(house: House, rights: str, mailbox: str = "INBOX") -> None:
    """Alice lets Bob do something."""
    alice = house.client()
    play(alice, f"C: a SETACL {mailbox} {BOB} {rights}\nS: a OK …")
    alice.send(b"b LOGOUT\r\n")
    house.hear()


def test_mailboxes_of_others_are_watched_in_their_owners_account(house: House) -> None:
    """§5: with the rights l and r; by the name under which they are shared."""
    share(house, "lr")
    name = f"Other Users/{ALICE}/INBOX"
    bob = house.client(user=BOB)
    events = "(MessageNew MessageExpunge MailboxName)"
    play(bob, f'C: a NOTIFY SET STATUS (MAILBOXES "{name}" {events})\nS: * STATUS "{name}" (… MESSAGES 3)\nS: a OK …')
    house.deliver("Four")
    assert told(bob)[0].startswith(f'* STATUS "{name}" (')
    house.deliver("Four", mailbox="Sent")
    assert told(bob) == []
    assert house.town.services.watches.of(AccountId(house.town.accounts[ALICE][1])) is not None


def test_what_others_no_longer_share_is_gone(house: House) -> None:
    """§5.4 and §5.9: losing the right l is a deletion, getting it a creation."""
    share(house, "lr")
    name = f"Other Users/{ALICE}/INBOX"
    bob = house.client(user=BOB)
    play(bob, 'C: a NOTIFY SET (SUBTREE "Other Users" (MessageNew MessageExpunge MailboxName))\nS: a OK …')
    share(house, '""')
    assert told(bob) == [f'* LIST (\\NonExistent \\NoAccess) "/" "{name}"']
    house.deliver("Four")
    assert told(bob) == []
    share(house, "lr")
    assert told(bob) == [f'* LIST (\\HasNoChildren) "/" "{name}"']
    house.deliver("Five")
    assert told(bob)[0].startswith(f'* STATUS "{name}" (')


def test_what_may_be_looked_up_and_not_read(house: House) -> None:
    r"""§3.1: \NoAccess."""
    share(house, "l")
    name = f"Other Users/{ALICE}/INBOX"
    bob = house.client(user=BOB)
    play(
        bob,
        f'C: a NOTIFY SET STATUS (MAILBOXES "{name}" (MessageNew MessageExpunge))\n'
        f'S: * LIST (\\NoAccess) "/" "{name}"\nS: a OK …',
    )
    house.deliver("Four")
    assert told(bob) == []


def test_names_that_may_not_be_seen_are_not_told(house: House) -> None:
    """§5.4, RFC 4314 §6: neither when such a mailbox goes nor by its owner's subscriptions."""
    share(house, "lr")
    wishes = '(SUBTREE "Other Users" (MailboxName)) (PERSONAL (SubscriptionChange)) (SUBSCRIBED (SubscriptionChange))'
    bob = house.client(f"a NOTIFY SET {wishes}\r\n", user=BOB)
    for change in ("create", "subscribe", "unsubscribe", "delete"):
        with house.town.account() as account:
            getattr(account.mailboxes, change)("Secret")
        house.hear()
        assert told(bob) == []


def test_an_owner_who_is_suspended(house: House) -> None:
    """Nobody hears of his mailboxes until he is back."""
    share(house, "lr")
    name = f"Other Users/{ALICE}/INBOX"
    bob = house.client(user=BOB)
    play(bob, 'C: a NOTIFY SET (SUBTREE "Other Users" (MessageNew MessageExpunge MailboxName))\nS: a OK …')
    house.town.provisioning.suspend_account(*house.town.accounts[ALICE])
    house.hear()
    assert told(bob) == [f'* LIST (\\NonExistent \\NoAccess) "/" "{name}"']
    house.deliver("Four")
    assert told(bob) == []
    house.town.provisioning.resume_account(*house.town.accounts[ALICE])
    house.hear()
    assert told(bob) == [f'* LIST (\\HasNoChildren) "/" "{name}"']


def test_an_account_is_open_as_long_as_somebody_watches_it(house: House) -> None:
    share(house, "lr")
    installation, key = house.town.installation, house.town.accounts[ALICE]
    alice = house.client("a NOTIFY SET (PERSONAL (MailboxName))\r\n")
    bob = house.client('a NOTIFY SET (SUBTREE "Other Users" (MailboxName))\r\n', user=BOB)
    alice.send(b"b LOGOUT\r\n")
    assert not installation._accounts._is_idle(key)
    bob.send(b"b LOGOUT\r\n")
    assert installation._accounts._is_idle(key)


def test_who_hangs_up_meanwhile_leaves_no_account_open(house: House) -> None:
    """As a connection does it: what was opened is handed over, then the command is closed."""
    share(house, "lr")
    bob = house.client(user=BOB)
    bob.decoder.feed(b'a NOTIFY SET (SUBTREE "Other Users" (MailboxName))\r\n')
    frame = bob.decoder.next_frame()
    assert isinstance(frame, Frame)
    flow, pool, key = bob.session.respond(frame), house.town.installation._accounts, house.town.accounts[ALICE]
    effect = next(flow)
    while pool._is_idle(key):
        assert isinstance(effect, Work)
        opened = effect.run()
        effect = flow.send(opened)
    flow.close()
    bob.session.close()
    assert pool._is_idle(key)


# --- on sockets ---


def test_news_come_without_a_command(tmp_path: Path) -> None:
    """§3.1, over TLS: messages of the selected mailbox, a name, and another mailbox."""
    with new_mail_town(tmp_path) as town, running_server(town) as server:
        client = SocketClient(server.tls_address, tls=server.client_context)
        other = SocketClient(server.tls_address, tls=server.client_context)
        for each in (client, other):
            play(each, f'S: * OK …\nC: x LOGIN alice@example.test "{PASSWORD}"\nS: x OK …')
        client.send(b"y SELECT INBOX\r\n")
        client.until("y")
        wishes = "(SELECTED (MessageNew (UID) MessageExpunge)) (PERSONAL (MessageNew MessageExpunge MailboxName))"
        play(client, f"C: a NOTIFY SET {wishes}\nS: a OK …")
        message = mail("Hello")
        other.send(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
        play(client, "S: * 1 EXISTS\nS: * 1 RECENT\nS: * 1 FETCH (UID 1)")
        other.until("b")
        play(other, "C: c CREATE Later\nS: c OK …")
        play(client, 'S: * LIST (\\HasNoChildren) "/" "Later"')
        play(other, "C: d UNSUBSCRIBE Sent\nS: d OK …")
        other.send(b"e APPEND Sent {%d+}\r\n%b\r\n" % (len(message), message))
        play(client, 'S: * STATUS "Sent" (UIDVALIDITY … UIDNEXT 2 MESSAGES 1)\nC: f NOOP\nS: f OK …')
        client.close()
        other.close()
