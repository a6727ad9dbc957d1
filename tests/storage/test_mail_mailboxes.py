"""Mailboxes by name: what may be made, renamed, deleted, and what is subscribed."""

from __future__ import annotations

import pytest
from accounts import ACCOUNT, KEY, TENANT, AccountPlace

from storage.changes import MailboxesChanged
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.mail.account import Account, Surroundings
from storage.mail.messages import NewMessage
from storage.mail.names import canonical, new_name, parents
from storage.mail.quota import Usage
from storage.values import MailboxId, UidSet


def names(account: Account) -> list[str]:
    return [mailbox.name for mailbox in account.mailboxes.list()]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("inbox", "INBOX"), ("InBox/a", "INBOX/a"), ("Inboxes", "Inboxes"), ("Bu\u0308ro", "B\xfcro"), ("work", "work")],
)
def test_inbox_is_caseless_and_names_are_nfc(written: str, meant: str) -> None:
    assert canonical(written) == new_name(written) == meant


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "a\x01", "a\r\nb", "a*", "a%", "x" * 1001, "/".join("a" * 65), "\ud800"]
)
def test_bad_names_are_refused(name: str, account: Account) -> None:
    with pytest.raises(InvalidInput):
        account.mailboxes.create(name)


def test_parents_from_the_top() -> None:
    assert list(parents("a/b/c")) == ["a", "a/b"]


def test_a_new_account_has_its_mailboxes_with_their_uses(account: Account) -> None:
    uses = {mailbox.name: mailbox.special_use for mailbox in account.mailboxes.list()}
    assert uses == {
        "INBOX": (),
        "Sent": ("\\Sent",),
        "Drafts": ("\\Drafts",),
        "Junk": ("\\Junk",),
        "Trash": ("\\Trash",),
        "Archive": ("\\Archive",),
    }
    assert account.mailboxes.subscriptions() == set(uses)
    assert len({mailbox.uidvalidity for mailbox in account.mailboxes.list()}) == 6


def test_create_makes_parents_and_find_is_exact(account: Account) -> None:
    made = account.mailboxes.create("A/B/C", ("\\Sent",))
    assert (made.special_use, made.object_id) == (("\\Sent",), f"F7-{made.id:x}")
    assert {"A", "A/B", "A/B/C"} < set(names(account))
    assert account.mailboxes.find("A/B").id == account.mailboxes.by_id(account.mailboxes.find("A/B").id).id
    with pytest.raises(NotFound):
        account.mailboxes.find("a/b")
    with pytest.raises(AlreadyExists):
        account.mailboxes.create("inbox")


def test_a_deleted_mailbox_leaves_its_children_and_never_returns(place: AccountPlace, account: Account) -> None:
    parent = account.mailboxes.create("A")
    account.mailboxes.create("A/B")
    account.messages.append_many(parent.id, [NewMessage(b"x\r\n\r\n", keywords=["k"])] * 1200)
    account.mailboxes.subscribe("A")
    account.mailboxes.delete("A")
    assert account.usage() == Usage(0, 0)
    assert "A" not in names(account)
    assert "A/B" in names(account)
    assert "A" in account.mailboxes.subscriptions()
    with pytest.raises(NotFound):
        account.messages.append(parent.id, b"x\r\n\r\n")
    again = account.mailboxes.create("A")
    assert again.id != parent.id
    assert again.uidvalidity > parent.uidvalidity
    place.settle()
    assert not list(account.maildir.names("cur"))
    with account.database.reading() as connection:
        for table in ("membership", "message", "content", "listing", "rendered", "trace_fields", "keyword", "unlink"):
            assert connection.driver.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_emptying_goes_on_when_the_account_is_opened_again(
    place: AccountPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = place.account
    mailbox = account.mailboxes.create("A")
    account.messages.append_many(mailbox.id, [NewMessage(b"x\r\n\r\n")] * 5)
    with monkeypatch.context() as patched:
        patched.setattr(place.background, "submit", lambda *_: None)
        account.mailboxes.delete("A")
    account.close()
    account = place.open()
    place.settle()
    assert not list(account.maildir.names("cur"))


def test_create_below_says_what_was_above_and_what_was_made(account: Account) -> None:
    mailboxes = account.mailboxes
    above, made = mailboxes.create_below("Work/a/b")
    assert (above, [each.name for each in made]) == (None, ["Work", "Work/a", "Work/a/b"])
    assert mailboxes.above("Work/a/c") == made[1]
    above, made = mailboxes.create_below("inbox/x")
    assert (above, [each.name for each in made]) == (mailboxes.find("INBOX"), ["INBOX/x"])
    assert mailboxes.above("Elsewhere/x") is None


def test_as_many_as_there_may_be(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parents count, and a full account may still rename what it has."""
    mailboxes = account.mailboxes
    monkeypatch.setattr("storage.mail.mailboxes.MAILBOXES_MAX", mailboxes.count() + 2)
    for refused in ("a/b/c", "a/b/c/d"):
        with pytest.raises(LimitReached):
            mailboxes.create(refused)
    mailboxes.create("a/b")
    with pytest.raises(LimitReached):
        mailboxes.create("c")
    mailboxes.rename("a", "d")
    with pytest.raises(LimitReached):
        mailboxes.rename("d/b", "e/b")
    assert {"d", "d/b"} <= set(names(account))


def test_rename_takes_inferiors_along(account: Account) -> None:
    for name in ("A/B/C", "A/X", "AB"):
        account.mailboxes.create(name)
    uidvalidity = account.mailboxes.find("A/B/C").uidvalidity
    account.mailboxes.rename("A", "Z/Y")
    assert {"Z", "Z/Y", "Z/Y/B", "Z/Y/B/C", "Z/Y/X", "AB"} < set(names(account))
    assert not {"A", "A/B"} & set(names(account))
    assert account.mailboxes.find("Z/Y/B/C").uidvalidity == uidvalidity


def test_what_rename_refuses(account: Account) -> None:
    account.mailboxes.create("A/B")
    for old, new, error in (
        ("A", "INBOX", AlreadyExists),
        ("A", "A", AlreadyExists),
        ("A", "A/B/C", NotPermitted),
        ("None", "B", NotFound),
        ("A", "x" * 999, InvalidInput),
        ("A", "B/", InvalidInput),
    ):
        with pytest.raises(error):
            account.mailboxes.rename(old, new)
    assert {"A", "A/B"} < set(names(account))


def test_what_was_looked_at_is_what_is_changed(account: Account) -> None:
    """Whoever was permitted to delete or move a mailbox was not permitted another that has its name by now."""
    mailboxes = account.mailboxes
    old = mailboxes.create("A").id
    mailboxes.rename("A", "B")
    new = mailboxes.create("A").id
    with pytest.raises(NotFound):
        mailboxes.delete("A", only=old)
    with pytest.raises(Conflict):
        mailboxes.rename("A", "C", only=(old,))
    mailboxes.create("A/below")
    with pytest.raises(Conflict):
        mailboxes.rename("A", "C", only=(new,))
    mailboxes.rename("B", "C", only=(old,))
    mailboxes.delete("C", only=old)
    assert {"A", "A/below"} == {name for name in names(account) if name[:1] in "ABC" and name != "Archive"}


def test_renaming_inbox_moves_its_messages(account: Account) -> None:
    inbox = account.mailboxes.find("INBOX")
    account.messages.append_many(inbox.id, [NewMessage(b"x\r\n\r\n")] * 3)
    account.mailboxes.rename("Inbox", "Old/Inbox")
    assert account.mailboxes.find("INBOX").messages == 0
    assert account.mailboxes.find("INBOX").id == inbox.id
    assert account.mailboxes.find("Old/Inbox").messages == 3


def test_subscriptions_are_names(account: Account) -> None:
    account.mailboxes.subscribe("not/there")
    account.mailboxes.subscribe("inbox")
    account.mailboxes.unsubscribe("Sent")
    account.mailboxes.unsubscribe("Sent")
    assert account.mailboxes.subscriptions() == {"INBOX", "Drafts", "Junk", "Trash", "Archive", "not/there"}


def test_recent_messages_are_told_of_once(account: Account) -> None:
    inbox = account.mailboxes.find("INBOX").id
    assert account.mailboxes.take_recent(inbox) == 1
    account.messages.append_many(inbox, [NewMessage(b"x\r\n\r\n")] * 2)
    assert account.mailboxes.recent_from(inbox) == 1
    assert account.mailboxes.take_recent(inbox) == 1
    assert account.mailboxes.take_recent(inbox) == account.mailboxes.recent_from(inbox) == 3
    with pytest.raises(NotFound):
        account.mailboxes.take_recent(MailboxId(99))


def test_deleting_inbox_is_not_permitted(account: Account) -> None:
    with pytest.raises(NotPermitted):
        account.mailboxes.delete("INBOX")
    assert account.messages.expunge(account.mailboxes.find("INBOX").id, UidSet.of([1])).uids == []


def test_changes_of_names_and_subscriptions_are_told_after_the_commit(place: AccountPlace) -> None:
    told: list[tuple[object, set[str], set[str]]] = []

    def publish(*changes: object) -> None:
        with_names = {mailbox.name for mailbox in account.mailboxes.list()}
        subscribed = account.mailboxes.subscriptions()
        told.extend((change, with_names, subscribed) for change in changes if isinstance(change, MailboxesChanged))

    surroundings = Surroundings(place.clock, place.incarnation.name, place.background, publish, boot="boot")
    account = Account.open(place.root, TENANT, ACCOUNT, KEY, surroundings)
    account.mailboxes.create("a")
    account.mailboxes.subscribe("a")
    account.mailboxes.rename("a", "b")
    account.mailboxes.delete("b")
    account.mailboxes.unsubscribe("a")
    with pytest.raises(NotFound):
        account.mailboxes.delete("b")
    assert {change for change, _, _ in told} == {MailboxesChanged(ACCOUNT)} and len(told) == 5
    steps = [(sorted(names & {"a", "b"}), sorted(subscribed & {"a", "b"})) for _, names, subscribed in told]
    assert steps == [(["a"], []), (["a"], ["a"]), (["b"], ["a"]), ([], ["a"]), ([], [])]
    account.close()
