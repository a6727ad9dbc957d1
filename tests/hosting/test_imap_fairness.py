"""A command that computes for long lets others go first: at every place where it says so, once its time is over."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from imap_town import MailTown
from twisted.internet.task import Clock

from hosting.auth.signin import Principal
from hosting.imap.counters import Counters
from hosting.imap.decoder import Decoder, Frame
from hosting.imap.effects import Handling, Work
from hosting.imap.mailboxes import listing
from hosting.imap.searching import esearch
from hosting.imap.session import Session
from hosting.imap.shell import connection as shell
from hosting.imap.shell import service as service_module
from hosting.imap.shell.connection import Connection
from hosting.imap.shell.service import ImapService
from storage.changes import Gap
from storage.mail.messages import NewMessage


class Transport:
    """Takes everything that is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Host:
    """One connection's service, whose event loop turns when it is told to."""

    def __init__(self, town: MailTown) -> None:
        self._town = town
        self.turns: list[Callable[[], object]] = []

    def admit(self, *_: object) -> bool:
        return True

    def session(self, address: str, *, secure: bool) -> Session:
        return Session(self._town.services, "test", address, secure=secure)

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        self.turns.append(lambda: call(*args))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class OneThread(ImapService):
    """A service whose workers' calls are made by the event loop."""

    def run(self, work: Work, done: Callable[[Any, BaseException | None], None]) -> None:
        self.soon(lambda: done(work.run(), None))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    town = MailTown(tmp_path_factory.mktemp("town"))
    yield town
    town.close()


@pytest.fixture
def host(town: MailTown) -> Host:
    return Host(town)


@pytest.fixture
def connection(host: Host) -> Connection:
    connection = Connection(host, implicit_tls=False, proxied=False)  # type: ignore[arg-type]
    connection.transport = Transport()  # type: ignore[assignment]
    connection.connectionMade()
    connection.transport.written.clear()
    return connection


def written(connection: Connection) -> bytes:
    transport: Any = connection.transport
    return b"".join(transport.written)


def run(connection: Connection, flow: Handling) -> None:
    connection._flow = flow
    connection._step(None)


def test_where_a_handler_yields_nothing_others_are_served_when_its_time_is_over(
    connection: Connection, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_BURST", -1.0)  # it is over at once
    done: list[int] = []

    def handler() -> Handling:
        for number in range(3):
            done.append(number)
            yield b""
        yield b"answer"

    run(connection, handler())
    assert done == [0]
    for expected in ([0, 1], [0, 1, 2], [0, 1, 2]):
        host.turns.pop()()
        assert done == expected
    assert written(connection) == b"answer"


def test_what_was_said_before_goes_out_before_others_are_served(
    connection: Connection, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_BURST", -1.0)

    def handler() -> Handling:
        yield b"first "
        yield b""
        yield b"second"

    run(connection, handler())
    assert written(connection) == b"first "
    host.turns.pop()()
    assert written(connection) == b"first second"


def test_a_handler_whose_time_is_not_over_goes_on(
    connection: Connection, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_BURST", 3600.0)

    def handler() -> Handling:
        for _ in range(1000):
            yield b""
        yield b"answer"

    run(connection, handler())
    assert written(connection) == b"answer"
    assert not host.turns


def test_a_client_that_goes_while_others_are_served_ends_its_command(
    connection: Connection, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_BURST", -1.0)
    ended: list[bool] = []

    def handler() -> Handling:
        try:
            while True:
                yield b""
        finally:
            ended.append(True)

    run(connection, handler())
    connection.connectionLost()
    assert ended == [True]
    host.turns.pop()()
    assert not host.turns


def test_after_a_gap_in_the_feed_mailboxes_are_told_of_one_after_the_other_and_others_are_served_in_between(
    town: MailTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_BURST", -1.0)
    clock = Clock()
    service = OneThread(
        clock, [], town.installation, town.authenticator, town.clock, town.limits, Counters(), tls_context=None
    )
    tenant_id, account_id = town.accounts["alice@example.test"]
    principal = Principal(tenant_id, account_id, "alice@example.test", "password", 1, 1, 0, 0)
    service._registry.enter(account_id)
    service._registry.enter(account_id)
    idle: list[Connection] = []
    for name in ("INBOX", "Sent"):
        connection = Connection(service, implicit_tls=False, proxied=False)
        connection.transport = Transport()  # type: ignore[assignment]
        connection.connectionMade()
        lease = town.installation.account(tenant_id, account_id)
        account = lease.__enter__()
        assert connection.session is not None
        connection.session.sign_in(principal, lease, account)
        connection.dataReceived(b"a SELECT %b\r\nb IDLE\r\n" % name.encode())
        while clock.getDelayedCalls():
            clock.advance(0)
        idle.append(connection)
    with town.account() as account:
        for name in ("INBOX", "Sent"):
            account.messages.append_many(account.mailboxes.find(name).id, [NewMessage(b"Subject: x\r\n\r\n")])

    def told() -> list[bool]:
        return [b"* 1 EXISTS" in written(connection) for connection in idle]

    assert told() == [False, False]
    service._changed([Gap()])
    assert sorted(told()) == [False, True]
    service._changed([Gap()])  # what waits is not told twice as fast
    assert sorted(told()) == [False, True]
    clock.advance(0)
    assert told() == [True, True]
    while clock.getDelayedCalls():
        clock.advance(0)
    for connection in idle:
        connection.connectionLost()


def effects_of(town: MailTown, command: bytes) -> list[Any]:
    """What a handler yields for a command of a session that signed in; the result of a call comes back at once."""
    tenant_id, account_id = town.accounts["alice@example.test"]
    session = Session(town.services, "test", "192.0.2.1", secure=True)
    lease = town.installation.account(tenant_id, account_id)
    town.services.registry.enter(account_id)
    principal = Principal(tenant_id, account_id, "alice@example.test", "password", 1, 1, 0, 0)
    session.sign_in(principal, lease, lease.__enter__())
    decoder = Decoder(town.limits)
    decoder.signed_in = True
    decoder.feed(command + b"\r\n")
    frame = decoder.next_frame()
    assert isinstance(frame, Frame)
    effects: list[Any] = []
    flow, value = session.respond(frame), None
    try:
        while True:
            effect = flow.send(value)
            value = effect.run() if isinstance(effect, Work) else None
            effects.append(effect)
    except StopIteration:
        session.close()
    return effects


def names_told(effects: list[Any]) -> list[bytes]:
    return [effect for effect in effects if isinstance(effect, bytes) and effect.startswith(b"* L")]


@pytest.mark.parametrize("command", [b'a LIST "" "*"', b'a LSUB "" "*"'])
def test_many_mailboxes_are_listed_by_a_worker_and_told_in_slices(
    town: MailTown, command: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects_of(town, command)  # the first asks who shares something, too
    few = effects_of(town, command)
    monkeypatch.setattr(listing, "_MANY", 2)
    monkeypatch.setattr(listing, "_SLICE", 2)
    many = effects_of(town, command)
    assert names_told(many) == names_told(few)
    assert len(names_told(many)) >= 4
    assert sum(isinstance(effect, Work) for effect in many) == sum(isinstance(effect, Work) for effect in few) + 2
    assert many.count(b"") >= len(names_told(many)) // 2


def test_numbers_of_many_messages_are_found_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esearch, "_SLICE", 10)
    selected: Any = SimpleNamespace(uids=array("I", range(101, 201)))
    flow = esearch.named(selected, list(range(0, 100, 3)), by_uid=True)
    turns = 0
    try:
        while True:
            assert next(flow) == b""
            turns += 1
    except StopIteration as end:
        assert list(end.value) == list(range(101, 201, 3))
    assert turns == 4
