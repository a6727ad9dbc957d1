"""What views remember of searches: bounded for each and for all of a process, and for no account that rests."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from random import Random
from threading import Thread

import pytest
from imap_town import MailTown, new_mail_town

from storage.mail.account import Account
from storage.mail.answers import Answers, Remembered
from storage.mail.columns import Columns
from storage.mail.lookup import Question, Verified
from storage.mail.sought import Sought
from storage.mail.view import MailboxView

ODD = array("I", range(1, 1000, 2))  # some 2,200 octets of an answer


def test_all_views_together_are_bounded_and_the_one_asked_longest_ago_forgets() -> None:
    remembered = Remembered(100_000)
    views = [Answers(remembered) for _ in range(60)]
    for number, view in enumerate(views):
        view.put("odd", 1000, ODD)
        assert views[0].get("odd") is not None, number  # it is asked again and again
        assert sum(each.octets for each in views) <= remembered.octets <= 100_000
    assert views[1].get("odd") is None and views[-1].get("odd") is not None


def test_texts_count_too() -> None:
    remembered = Remembered(20_000)
    views = [Answers(remembered) for _ in range(4)]
    for view in views:
        assert view.whole_text(array("I", range(1000, 3000)), 1).startswith(b" 2000 2001 ")
    assert remembered.octets == sum(view.octets for view in views) <= 20_000


def test_views_that_ended_make_room_first() -> None:
    remembered = Remembered(50_000)
    kept = Answers(remembered)
    kept.put("odd", 1000, ODD)
    for number in range(100):
        Answers(remembered).put(number, 1000, ODD)  # and it has ended
        assert remembered.octets <= 50_000
    assert kept.get("odd") is not None


def test_what_was_asked_counts() -> None:
    view = Answers(Remembered())
    view.put("short", 5, [1])
    assert view.put("x" * 10_000, 5, [1]).positions == array("I", [1])
    assert view.get("x" * 10_000) is None and view.get("short") is not None
    for number in range(100):
        view.put(f"{number}" * 500, 5, [1])
        assert view.octets <= 4096


def test_octets_are_counted_exactly_whatever_happens_and_on_two_threads() -> None:
    remembered = Remembered(30_000)
    views = [Answers(remembered) for _ in range(4)]

    def rest() -> None:
        for turn in range(400):
            views[turn % 4].clear()

    resting, random = Thread(target=rest), Random(5)
    resting.start()
    for _ in range(2000):
        view, asked = random.choice(views), random.randrange(12)
        if random.random() < 0.5:
            answer = view.get(asked)
            assert answer is None or answer.count == asked + 1000
        else:
            view.put(asked, asked + 1000, ODD[: asked * 40])
    resting.join()
    assert remembered.octets == sum(view.octets for view in views)
    for view in views:
        view.clear()
    assert remembered.octets == 0


def test_long_needles_count_as_many_answers_and_all_can_be_forgotten() -> None:
    verified = Verified(answers_max=100)
    long = [Question.of("body", letter * 4000) for letter in "abc"]  # as much as 50 answers each
    for each in long:
        verified.learn(each, {1: True})
    assert [verified.known(each, [1]) for each in long] == [{}, {}, {1: True}]
    verified.learn(Question.of("body", "d" * 9000), {1: True})  # too long in itself
    verified.learn(long[0], {2: True})
    assert verified.known(long[0], [1, 2]) == {2: True}
    verified.forget()
    assert verified.known(long[0], [2]) == {}
    verified.learn(long[1], dict.fromkeys(range(50), True))
    assert len(verified.known(long[1], range(50))) == 50


@pytest.fixture
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("answers")) as town:
        yield town


def searched(account: Account) -> tuple[MailboxView, Columns]:
    inbox = account.mailboxes.find("INBOX").id
    account.messages.append(inbox, b"Subject: one\r\n\r\nAn apple.\r\n")
    view = account.views.load(inbox)
    columns = view.columns()
    columns.answers.put("apple", 1, [0])
    lookup = account.index.lookup("body", "apple", Sought.of(columns.message_ids))
    assert lookup.step() and lookup.matches
    return view, columns


def test_nothing_is_remembered_of_an_account_that_rests_or_is_closed(town: MailTown) -> None:
    with town.account() as account:
        view, columns = searched(account)
        for _ in range(2):  # the first look finds that it was used
            town.installation.rest_accounts()
        assert columns.answers.octets == 0 and view.columns() is columns
        assert not account.index._verified._answers
        columns.answers.put("apple", 1, [0])
        town.installation.forget_account(account.tenant_id, account.account_id, patience=0)
        assert columns.answers.octets == 0
