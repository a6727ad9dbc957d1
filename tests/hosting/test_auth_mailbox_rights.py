"""What the IMAP role asks the auth role about others' mailboxes: the same answers as from the directory itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from imap_town import MailTown, new_mail_town

from hosting.auth import grants
from hosting.auth.frames import Fields, FrameReader, encode
from hosting.auth.grants import Role
from hosting.auth.holders import Holders
from hosting.auth.mailbox_rights import DirectoryRights, RemoteRights, RightsDirectory, RightsRequests
from hosting.auth.messages import error_of
from hosting.auth.requests import Caller, Requests
from storage.changes import Gap, RightsChanged, Subscriber
from storage.directory.mailbox_rights import ANYONE
from storage.errors import InvalidInput, LimitReached, NotFound, NotPermitted
from storage.values import AccountId, MailboxId

ALICE, BOB, MALLORY = "alice@example.test", "bob@example.test", "mallory@other.test"
INBOX = MailboxId(1)


class AuthRole:
    """Its requests, asked by frames as over its socket."""

    def __init__(self, town: MailTown) -> None:
        self.directory = DirectoryRights(town.installation)
        self._requests = Requests(town.verifier, town.keys, Holders(), mailbox_rights=self.directory)

    def ask(self, fields: Fields, role: Role = Role.IMAP) -> Any:
        reader = FrameReader()
        reader.feed(encode(fields))
        asked = reader.next()
        assert asked is not None
        answers = FrameReader()
        answers.feed(encode(self._requests.answer(Caller(1, role), asked).result()))
        reply = answers.next()
        assert reply is not None
        if "ok" not in reply:
            raise error_of(reply)
        return reply["ok"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("rights")) as town:
        yield town


@pytest.mark.parametrize("how", ["here", "there"])
def test_both_answer_alike(town: MailTown, how: str) -> None:
    role = AuthRole(town)
    rights: RightsDirectory = role.directory if how == "here" else RemoteRights(role.ask)
    (tenant, alice), (_, bob) = town.accounts[ALICE], town.accounts[BOB]
    subscriber = Subscriber(town.data, town.clock)
    assert rights.find(tenant, "Bob@Example.Test").id == bob and rights.find(tenant, "anyone").id == ANYONE
    assert rights.login(tenant, bob) == BOB
    assert rights.change(tenant, alice, INBOX, bob, "replace", "lrk") == ("", "lrk")
    assert rights.change(tenant, alice, INBOX, bob, "replace", "lrk") == ("lrk", "lrk")
    rights.inherit(tenant, alice, INBOX, [MailboxId(77)])
    rows = rights.shared_with(tenant, bob)
    assert [(row.owner_id, row.mailbox_id, row.rights, row.owner_login) for row in rows] == [
        (alice, INBOX, "lrk", ALICE),
        (alice, 77, "lrk", ALICE),
    ]
    assert [(row.identifier, row.login) for row in rights.of_mailbox(tenant, alice, MailboxId(77))] == [(bob, BOB)]
    rights.remove_mailbox(tenant, alice, MailboxId(77))
    assert rights.change(tenant, alice, INBOX, bob, "remove", "lrk") == ("lrk", "")
    assert rights.shared_with(tenant, bob) == []
    told = [change for change in subscriber.drain() if not isinstance(change, Gap)]
    subscriber.close()
    assert set(told) == {RightsChanged(tenant, alice)}  # what changed nothing is told to nobody, the rest to all


def test_refusals_are_the_directorys(town: MailTown) -> None:
    rights = RemoteRights(AuthRole(town).ask)
    tenant, alice = town.accounts[ALICE]
    for name in (MALLORY, "nobody@example.test", "no address", "", "x" * 5000):
        with pytest.raises(NotFound):
            rights.find(tenant, name)
    with pytest.raises(InvalidInput):
        rights.change(tenant, alice, INBOX, alice, "replace", "lr")
    with pytest.raises(NotFound):
        rights.change(tenant, alice, INBOX, town.accounts[MALLORY][1], "replace", "lr")  # of another tenant
    with pytest.raises(InvalidInput):
        rights.change(tenant, alice, INBOX, AccountId(99), "other", "lr")  # type: ignore[arg-type]
    with pytest.raises((InvalidInput, LimitReached)):
        rights.inherit(tenant, alice, INBOX, [MailboxId(each) for each in range(2000)])


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.IMAP])
def test_no_other_role_asks(town: MailTown, role: Role) -> None:
    auth = AuthRole(town)
    tenant, alice = town.accounts[ALICE]
    for operation in ("mailboxes_shared", "mailbox_rights", "mailbox_identifier", "mailbox_owner"):
        with pytest.raises(NotPermitted):
            auth.ask({"op": operation, "tenant": tenant, "account": alice}, role)
    for operation in ("change_mailbox_rights", "inherit_mailbox_rights", "remove_mailbox_rights"):
        with pytest.raises(NotPermitted):
            auth.ask({"op": operation, "tenant": tenant, "owner": alice, "mailbox": 1}, role)


def test_every_operation_is_granted_to_somebody() -> None:
    """One that is in no table could be asked by everybody."""
    for operation in RightsRequests(None).operations:
        with pytest.raises(NotPermitted):
            grants.check(Role.SMTP, operation)
