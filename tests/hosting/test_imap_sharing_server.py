"""Shared mailboxes on a socket: what the change feed tells ends sessions or lets them go on; accounts are let go of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from account_ending import end_account
from imap_play import SocketClient
from imap_server import RunningServer, running_server
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.auth.mailbox_rights import DirectoryRights
from storage.values import AccountId

BOB = "bob@example.test"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("sharing")) as town:
        yield town


@pytest.fixture(scope="module")
def server(town: MailTown) -> Iterator[RunningServer]:
    with running_server(town) as server:
        yield server


class Sharer:
    """An account with a mailbox that it shares, as the command line does: in the directory, which tells everybody."""

    def __init__(self, town: MailTown, name: str) -> None:
        self.town = town
        self.tenant_id = town.accounts[BOB][0]
        self.login = f"{name}@example.test"
        town.new_account(self.tenant_id, self.login)
        self.account_id: AccountId = town.accounts[self.login][1]
        self.rights = DirectoryRights(town.installation)
        with town.account(self.login) as account:
            self.inbox = account.mailboxes.find("INBOX").id
            account.messages.append(self.inbox, mail("One"))
        self.let("lrs")

    def let(self, letters: str) -> None:
        bob = self.town.accounts[BOB][1]
        self.rights.change(self.tenant_id, self.account_id, self.inbox, bob, "replace", letters)

    def reader(self, server: RunningServer) -> SocketClient:
        """Bob, who has the mailbox selected."""
        client = SocketClient(server.tls_address, tls=server.client_context)
        client.send(f'a LOGIN {BOB} "{PASSWORD}"\r\nb SELECT "Other Users/{self.login}/INBOX"\r\n'.encode())
        assert client.until("b")[-1].startswith("b OK")
        return client


def idle(client: SocketClient) -> None:
    client.send(b"c IDLE\r\n")
    while not client.receive(1)[-1].startswith("+"):
        pass


@pytest.mark.parametrize("in_idle", [True, False])
def test_reading_that_is_taken_away_ends_sessions_at_once(town: MailTown, server: RunningServer, in_idle: bool) -> None:
    """RFC 4314 §5.1.1."""
    sharer = Sharer(town, f"ann-{in_idle}".lower())
    client = sharer.reader(server)
    if in_idle:
        idle(client)
    sharer.let("l")
    assert client.receive_all().endswith(b"* BYE [NOPERM] The selected mailbox is no longer shared with you.\r\n")
    client.close()


def test_what_is_given_counts_for_the_next_command(town: MailTown, server: RunningServer) -> None:
    sharer = Sharer(town, "eve")
    client = SocketClient(server.tls_address, tls=server.client_context)
    client.send(f'a LOGIN {BOB} "{PASSWORD}"\r\nb MYRIGHTS "Other Users/{sharer.login}/INBOX"\r\n'.encode())
    assert client.until("b")[-2].endswith("lrs")
    sharer.let("lrswi")
    for _ in range(200):  # the feed takes a moment
        client.send(f'c MYRIGHTS "Other Users/{sharer.login}/INBOX"\r\n'.encode())
        if client.until("c")[-2].endswith("lrswi"):
            break
    else:
        pytest.fail("the change of rights was not told")
    client.close()


def test_mail_of_the_owner_is_told_in_idle(town: MailTown, server: RunningServer) -> None:
    sharer = Sharer(town, "pat")
    client = sharer.reader(server)
    idle(client)
    with town.account(sharer.login) as account:
        account.messages.append(sharer.inbox, mail("Two"))
    assert client.receive(1) == ["* 2 EXISTS"]
    client.close()


def test_an_owner_who_is_suspended_or_ends_lets_nobody_read_on(town: MailTown, server: RunningServer) -> None:
    """And nobody keeps what ends open: its lease is given back with the session that had it."""
    sharer, other = Sharer(town, "sue"), Sharer(town, "tom")
    suspended, ended = sharer.reader(server), other.reader(server)
    idle(ended)
    town.provisioning.suspend_account(sharer.tenant_id, sharer.account_id)
    assert b"* BYE [NOPERM]" in suspended.receive_all()
    end_account(town.installation, other.tenant_id, other.account_id)
    assert b"* BYE [NOPERM]" in ended.receive_all()
    for client in (suspended, ended):
        client.close()
