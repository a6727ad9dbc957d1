"""The parts that processes are made of: sockets, the channel between supervisor and worker, the log, the metrics."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from hosting import faults, operational_log
from hosting.auth.signin import Principal, SignIn
from hosting.config import Config, Listen
from hosting.metrics import CountingAuthenticator, Metrics
from hosting.roles import channel, listening, notify
from hosting.roles.only_server import only_server, server_runs
from hosting.roles.table import ROLES, concerned, needs_restart, spec
from storage.errors import AuthenticationFailed, Corrupt, InvalidInput, Throttled, Unavailable
from storage.sending_limits import SendingLimits
from storage.values import AccountId, TenantId


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# Sockets


def test_each_worker_gets_a_socket_of_its_own_on_the_same_port() -> None:
    listen = Listen(addresses=("127.0.0.1",), imap=free_port(), imaps=0)
    first, second = (listening.bind(listen, ["imap", "imaps"]) for _ in range(2))
    try:
        assert [name for name, _ in first] == ["imap"]
        assert first[0][1].getsockname() == second[0][1].getsockname()
    finally:
        listening.close(first)
        listening.close(second)


def test_a_port_of_somebody_else_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen = Listen(addresses=("127.0.0.1",), imap=port)
        with pytest.raises(
            Unavailable, match=f"Port {port} of 127.0.0.1 .imap. cannot be listened on: another program"
        ):
            listening.bind(listen, ["imap"])
        assert "another program" in (listening.is_in_use(listen, ["imap"]) or "")


def test_another_server_with_reuseport_is_noticed() -> None:
    listen = Listen(addresses=("127.0.0.1",), imap=free_port())
    bound = listening.bind(listen, ["imap"])
    try:
        assert "another program" in (listening.is_in_use(listen, ["imap"]) or "")
    finally:
        listening.close(bound)
    assert listening.is_in_use(listen, ["imap"]) is None


def test_an_address_that_the_machine_does_not_have() -> None:
    with pytest.raises(Unavailable, match="does not have the address"):
        listening.bind(Listen(addresses=("192.0.2.1",), imap=free_port()), ["imap"])


# The channel


def test_a_start_line_comes_back_as_it_was() -> None:
    start = channel.Start("/data", '[imap]\nidle_timeout = 3\n# "ü"\n', [("imap", 4), ("imaps", 5)])
    line = start.encode()
    assert line.count(b"\n") == 1 and channel.Start.decode(line) == start


@pytest.mark.parametrize("line", [b"", b"{}", b"nonsense\n", b'{"data": 1}\n'])
def test_a_role_that_is_started_by_hand_says_how_it_is_done(line: bytes) -> None:
    with pytest.raises(InvalidInput, match="cleanmail serve"):
        channel.Start.decode(line)


def test_messages_may_come_in_any_pieces() -> None:
    octets = channel.encode(channel.READY) + channel.encode(channel.FAILED, "No keys.\nNone.")
    lines = channel.Lines()
    found = [message for n in range(len(octets)) for message in lines.feed(octets[n : n + 1])]
    assert found == [("ready", ""), ("failed", "No keys.\nNone.")]


# Which process a change of configuration concerns


def test_changed_settings_concern_the_roles_that_use_them() -> None:
    old = Config()
    imap = dataclasses.replace(old, imap=dataclasses.replace(old.imap, idle_timeout=3600.0))
    assert [role.name for role in ROLES if concerned(role, old, imap)] == ["imap"]
    everybody = dataclasses.replace(old, server=dataclasses.replace(old.server, stop_within=5.0))
    assert all(concerned(role, old, everybody) for role in ROLES)
    assert needs_restart(old, imap) == []


def test_every_section_concerns_somebody() -> None:
    """A changed setting that no role is replaced for would count for nothing until the next start."""
    sections = {section.name for section in dataclasses.fields(Config)} - {"server", "storage", "logs"}
    assert {section for role in ROLES for section in role.sections} == sections
    limits = dataclasses.replace(Config(), sending=SendingLimits(freeze_above=7))
    assert [role.name for role in ROLES if concerned(role, Config(), limits)] == ["smtp", "web"]


def test_bound_addresses_need_a_restart() -> None:
    old = Config()
    new = dataclasses.replace(old, listen=dataclasses.replace(old.listen, imap=1143))
    assert needs_restart(old, new) == ["listen.imap"]


def test_without_a_port_there_is_no_web_role() -> None:
    config = Config(listen=Listen(https=0, http=0))
    assert spec("web").processes(config) == 0
    assert spec("web").processes(dataclasses.replace(config, listen=Listen(https=8443, http=0))) >= 1


def test_everybody_starts_after_the_role_that_gives_keys() -> None:
    assert min(role.stage for role in ROLES) == spec("auth").stage
    assert [role.name for role in ROLES if role.stage == spec("auth").stage] == ["auth"]


# One server per data directory


def test_a_second_server_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    assert not server_runs(tmp_path)
    with only_server(tmp_path):
        assert server_runs(tmp_path)
        assert not server_runs(tmp_path, tmp_path / "no-locks")
    with only_server(tmp_path), pytest.raises(Unavailable, match=f"process {os.getpid()}"), only_server(tmp_path):
        pass
    with only_server(tmp_path):
        pass


def test_systemd_is_told_by_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.ready()
        notify.reloading()
        assert receiver.recv(100) == b"READY=1"
        assert receiver.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.ready()


# The operational log


def test_a_line_names_an_exception_by_type_and_place_and_never_by_its_text() -> None:
    formatter = operational_log.LineFormatter("imap[0]", journal=False)
    try:
        raise ValueError("alice@example.test wrote: secret")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "command failed", (), _current())
    line = formatter.format(record)
    assert "secret" not in line and "alice" not in line and "\n" not in line
    assert "ValueError at tests/hosting/test_hosting_roles.py:" in line
    assert line.split(" ", 1)[1].startswith("error imap[0] x: command failed")


def test_our_own_errors_show_their_ids() -> None:
    assert faults.describe(Corrupt(detail="account 7")).startswith("Corrupt: account 7")


def test_under_journald_a_line_begins_with_its_priority() -> None:
    record = logging.getLogger("x").makeRecord("x", logging.WARNING, "f", 1, "a %s", ("b",), None)
    assert operational_log.LineFormatter("auth[0]", journal=True).format(record) == "<4>auth[0] x: a b"


def _current() -> object:
    import sys

    return sys.exc_info()


# Metrics


class Doorman:
    """An Authenticator that answers what it is given."""

    def __init__(self, answer: Principal | Exception) -> None:
        self._answer = answer

    def verify(self, sign_in: SignIn) -> Principal:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def still_valid(self, principal: Principal) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Principal(TenantId(1), AccountId(2), "a@b.test", "password", 1, 1, 0, 0), "success"),
        (AuthenticationFailed(), "failed"),
        (Throttled(), "throttled"),
        (Unavailable(), "unavailable"),
    ],
)
def test_sign_ins_are_counted_by_result_without_a_name(answer: Principal | Exception, result: str) -> None:
    metrics = Metrics(CollectorRegistry())
    authenticator = CountingAuthenticator(Doorman(answer), metrics)
    try:
        authenticator.verify(SignIn("imap", "a@b.test", "x", "192.0.2.1"))
    except (AuthenticationFailed, Throttled, Unavailable) as error:
        assert error is answer
    labels = {"protocol": "imap", "result": result}
    assert metrics.registry.get_sample_value("cleanmail_sign_ins_total", labels) == 1
    assert {name for metric in metrics.registry.collect() for sample in metric.samples for name in sample.labels} <= {
        "protocol",
        "result",
        "le",
        "kind",
    }


def test_totals_of_a_protocol_become_counters() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.count_up_to("imap", {"commands": 10})
    metrics.count_up_to("imap", {"commands": 14})
    assert metrics.registry.get_sample_value("cleanmail_events_total", {"protocol": "imap", "kind": "commands"}) == 14
