r"""What moving and marking messages says of spam: the rules as tables, and what is written, in whose transaction.

Standards: RFC 6154 (\Junk, \Trash), RFC 6851, RFC 9051 §6.4.6, §6.4.7.
"""

from __future__ import annotations

from typing import Any

import pytest
from accounts import AccountPlace
from statements import Statements

from storage.errors import NotFound
from storage.mail.opinions import Opinion, Waiting, concerns, of_keywords, of_transfer
from storage.mail.outcomes import How
from storage.values import SEEN, MailboxId, MessageId, UidSet

INBOX, JUNK, TRASH, ARCHIVE = "INBOX", "Junk", "Trash", "Archive"
MESSAGE = b"From: a@example.test\r\nSubject: x\r\n\r\nText.\r\n"
ALL = UidSet(((1, 1000),))


class Owner:
    """Who uses the account."""

    def __init__(self, place: AccountPlace) -> None:
        self.account = place.account
        self.messages = place.account.messages

    def box(self, name: str) -> MailboxId:
        return self.account.mailboxes.find(name).id

    def append(self, name: str, **how: Any) -> MessageId:
        return self.messages.append(self.box(name), MESSAGE, **how).message_id

    def move(self, source: str, target: str) -> None:
        self.messages.move(self.box(source), ALL, self.box(target))

    def copy(self, source: str, target: str) -> None:
        self.messages.copy(self.box(source), ALL, self.box(target))

    def store(self, name: str, how: How, *keywords: str, flags: int = 0) -> None:
        self.messages.store(self.box(name), ALL, how, flags, keywords)

    @property
    def opinions(self) -> dict[int, Opinion]:
        return {each.message_id: each.opinion for each in self.account.opinions.waiting(1000)}


@pytest.fixture
def owner(place: AccountPlace) -> Owner:
    return Owner(place)


NOTHING: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (NOTHING, ("\\Junk",), Opinion.SPAM),
        (("\\Archive",), ("\\Junk",), Opinion.SPAM),
        (("\\Sent",), ("\\Junk",), Opinion.SPAM),
        (("\\Trash",), ("\\Junk",), Opinion.SPAM),
        (NOTHING, ("\\Important", "\\Junk"), Opinion.SPAM),
        (("\\Junk",), NOTHING, Opinion.HAM),
        (("\\Junk",), ("\\Archive",), Opinion.HAM),
        (("\\Junk",), ("\\Trash",), None),
        (("\\Junk",), ("\\Junk",), None),
        (NOTHING, NOTHING, None),
        (NOTHING, ("\\Trash",), None),
        (("\\Trash",), NOTHING, None),
        (("\\Trash",), ("\\Trash",), None),
    ],
)
def test_what_a_transfer_says(source: tuple[str, ...], target: tuple[str, ...], said: Opinion | None) -> None:
    assert of_transfer(source, target) is said


@pytest.mark.parametrize(
    ("added", "spam", "ham", "said"),
    [
        (("$Junk",), True, False, Opinion.SPAM),
        (("Junk",), True, False, Opinion.SPAM),
        (("JUNK", "$label1"), True, False, Opinion.SPAM),
        (("$NotJunk",), False, True, Opinion.HAM),
        (("NonJunk",), False, True, Opinion.HAM),
        (("$Junk",), True, True, Opinion.SPAM),  # the other is about to be removed
        (("NonJunk",), True, True, Opinion.HAM),
        (("$Junk", "$NotJunk"), True, True, None),
        ((), True, False, Opinion.SPAM),  # the other was removed
        ((), False, True, Opinion.HAM),
        ((), False, False, Opinion.NONE),
        ((), True, True, None),  # of three, one was removed
    ],
)
def test_what_keywords_say(added: tuple[str, ...], spam: bool, ham: bool, said: Opinion | None) -> None:
    assert of_keywords(added, spam=spam, ham=ham) is said


def test_only_four_kinds_of_keywords_concern_it() -> None:
    assert concerns(["$junk"]) and concerns(["x", "NotJunk"])
    assert not concerns([]) and not concerns(["$Forwarded", "Junkie"])


def test_into_junk_and_back(owner: Owner) -> None:
    message_id = owner.append(INBOX)
    assert owner.opinions == {}
    owner.move(INBOX, JUNK)
    assert owner.opinions == {message_id: Opinion.SPAM}
    owner.move(JUNK, INBOX)
    assert owner.opinions == {message_id: Opinion.HAM}


def test_copies_say_the_same_as_moves(owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.copy(INBOX, JUNK)
    assert owner.opinions == {message_id: Opinion.SPAM}
    owner.copy(JUNK, ARCHIVE)
    assert owner.opinions == {message_id: Opinion.HAM}


@pytest.mark.parametrize(
    ("source", "target"), [(INBOX, ARCHIVE), (INBOX, TRASH), (JUNK, TRASH), (TRASH, INBOX), (JUNK, JUNK)]
)
def test_other_moves_say_nothing(owner: Owner, source: str, target: str) -> None:
    owner.append(source)
    owner.move(source, target)
    assert owner.opinions == {}


def test_delivery_and_append_say_nothing(owner: Owner) -> None:
    owner.append(JUNK, keywords=["$Junk"], delivery_id="Q1")
    owner.append(JUNK)
    owner.append(INBOX, keywords=["$NotJunk"])
    assert owner.opinions == {}


def test_a_junk_mailbox_is_one_by_its_use_and_not_by_its_name(owner: Owner) -> None:
    mailboxes = owner.account.mailboxes
    mailboxes.rename(JUNK, "Unerwünscht")
    mailboxes.create(JUNK)
    message_id = owner.append(INBOX)
    owner.move(INBOX, JUNK)
    assert owner.opinions == {}
    owner.move(JUNK, "Unerwünscht")
    assert owner.opinions == {message_id: Opinion.SPAM}
    assert owner.account.opinions.junk_names() == {"Unerwünscht"}


def test_marking_as_thunderbird_does(owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.store(INBOX, "add", "Junk")
    owner.store(INBOX, "remove", "NonJunk")
    assert owner.opinions == {message_id: Opinion.SPAM}
    owner.store(INBOX, "remove", "Junk")
    assert owner.opinions == {message_id: Opinion.NONE}
    owner.store(INBOX, "add", "NonJunk")
    assert owner.opinions == {message_id: Opinion.HAM}


def test_flags_that_change_nothing_say_nothing(owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.store(INBOX, "add", "$Junk")
    owner.account.opinions.settle(owner.account.opinions.waiting(10))
    owner.store(INBOX, "add", "$Junk")
    owner.store(INBOX, "add", "$Forwarded", flags=SEEN)
    owner.store(INBOX, "remove", "$NotJunk")
    assert owner.opinions == {}
    owner.store(INBOX, "replace", "$NotJunk")
    assert owner.opinions == {message_id: Opinion.HAM}


def test_a_keyword_that_is_replaced_away_is_taken_back(owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.store(INBOX, "add", "$Junk")
    owner.store(INBOX, "replace", flags=SEEN)
    assert owner.opinions == {message_id: Opinion.NONE}


def test_a_mark_of_wanted_mail_that_goes_in_junk_takes_nothing_back(owner: Owner) -> None:
    message_id = owner.append(INBOX, keywords=["$NotJunk"])
    owner.move(INBOX, JUNK)
    owner.store(JUNK, "remove", "$NotJunk")
    assert owner.opinions == {message_id: Opinion.SPAM}


def test_only_a_change_of_these_keywords_says_anything(owner: Owner) -> None:
    owner.append(INBOX)
    owner.store(INBOX, "add", "$Forwarded")
    owner.store(INBOX, "remove", "$Junk", "$Forwarded")
    owner.store(INBOX, "add", "$label1")
    owner.store(INBOX, "replace", flags=SEEN)
    assert owner.opinions == {}


def test_a_store_of_many_says_of_each_what_it_says(owner: Owner) -> None:
    first, second, third = owner.append(INBOX), owner.append(INBOX, keywords=["$Junk"]), owner.append(INBOX)
    owner.store(INBOX, "add", "$Junk")
    assert owner.opinions == {first: Opinion.SPAM, third: Opinion.SPAM}
    owner.store(INBOX, "add", "$NotJunk")
    assert owner.opinions == {first: Opinion.HAM, second: Opinion.HAM, third: Opinion.HAM}


def test_what_is_said_anew_while_it_is_learned_stays(place: AccountPlace, owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.move(INBOX, JUNK)
    waiting = owner.account.opinions.waiting(10)
    assert waiting == [Waiting(message_id, Opinion.SPAM, place.clock.now())]
    owner.move(JUNK, INBOX)
    owner.account.opinions.settle(waiting)
    assert owner.opinions == {message_id: Opinion.HAM}
    owner.account.opinions.settle(owner.account.opinions.waiting(10))
    assert owner.opinions == {}


def test_the_oldest_are_learned_first(place: AccountPlace, owner: Owner) -> None:
    ids = [owner.append(INBOX) for _ in range(3)]
    owner.messages.move(owner.box(INBOX), UidSet.of([2]), owner.box(JUNK))
    place.clock.advance(1)
    owner.move(INBOX, JUNK)
    assert [each.message_id for each in owner.account.opinions.waiting(2)] == [ids[1], ids[0]]


def test_opinions_survive_a_restart(place: AccountPlace, owner: Owner) -> None:
    message_id = owner.append(INBOX)
    owner.move(INBOX, JUNK)
    place.account.close()
    assert [each.message_id for each in place.open().opinions.waiting(10)] == [message_id]


def test_ordinary_moves_and_stores_ask_and_write_nothing_more(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an account knows its mailboxes, what says nothing of spam costs no statement."""
    owner.append(INBOX)
    owner.move(INBOX, ARCHIVE)
    owner.move(ARCHIVE, INBOX)
    statements = Statements(monkeypatch)
    # Memberships read; source and target advanced; one delete, one tombstone, one insert.
    assert statements.of(lambda: owner.messages.move(owner.box(INBOX), ALL, owner.box(ARCHIVE))) <= 2 + 6
    assert statements.of(lambda: owner.messages.store(owner.box(ARCHIVE), ALL, "add", SEEN)) <= 1 + 3
    ordinary = statements.of(lambda: owner.move(ARCHIVE, INBOX))
    saying = statements.of(lambda: owner.move(INBOX, JUNK))
    assert saying > ordinary


def test_nothing_is_written_when_the_move_fails(owner: Owner) -> None:
    owner.append(INBOX)
    with pytest.raises(NotFound):
        owner.messages.move(owner.box(INBOX), ALL, MailboxId(99))
    assert owner.opinions == {}


def test_where_a_message_was_put_first_is_in_its_file(owner: Owner) -> None:
    message_id = owner.append(INBOX, prefix=b"Received: from x\r\n")
    owner.move(INBOX, JUNK)
    meta, data = owner.messages.read_original(message_id, 10)
    assert (meta.mailbox, meta.prefix, data) == (INBOX, b"Received: from x\r\n", MESSAGE[:10])
    assert owner.messages.read_original(message_id, 10_000)[1] == MESSAGE


def test_what_people_read_and_left_where_it_was(owner: Owner) -> None:
    kept = [owner.append(INBOX, flags=SEEN), owner.append(ARCHIVE, flags=SEEN)]
    owner.append(INBOX)
    for name in (JUNK, TRASH, "Sent", "Drafts"):
        owner.append(name, flags=SEEN)
    kept.append(owner.append(INBOX, flags=SEEN))
    assert owner.messages.read_and_kept(10) == kept[::-1]
    assert owner.messages.read_and_kept(2) == kept[:0:-1]
    owner.account.mailboxes.delete(ARCHIVE)
    assert owner.messages.read_and_kept(10) == [kept[2], kept[0]]
