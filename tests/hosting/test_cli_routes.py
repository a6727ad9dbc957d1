"""cleanmail route: what is set, shown and refused, on a real installation; each change an audit record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_server import DnsServer

from hosting import cli

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    zone = {
        "mail.acme.test": {"A": "127.0.0.9"},
        "public.acme.test": {"A": "8.8.4.4"},
        "loop.acme.test": {"A": "127.0.0.1"},
    }
    with DnsServer(zone) as server:
        yield server


@pytest.fixture
def cleanmail(tmp_path: Path, capsys: pytest.CaptureFixture[str], dns: DnsServer) -> Run:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(
        '[server]\nhostname = "mx.provider.test"\n[listen]\naddresses = ["127.0.0.1"]\nmx = 2525\n'
        f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
    )

    def run(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        status = cli.run(["--data", str(data), "--json", *arguments])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    for arguments in (
        ["init"],
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ada@acme.test", "--without-password"],
    ):
        assert run(*arguments)[0] == 0
    return run


def test_set_show_list_remove(cleanmail: Run) -> None:
    assert cleanmail("route", "list")[1] == []
    assert cleanmail("route", "show", "acme.test")[1]["mode"] == "here"
    status, shown, _ = cleanmail("route", "set", "acme.test", "--server", "public.acme.test", "--tls", "verified")
    assert (status, shown["server"], shown["mode"], shown["verify"]) == (0, "public.acme.test:25", "server", True)
    status, _, _ = cleanmail("route", "set", "acme.test", "--server", "[2001:4860::8]:26", "--split", "--no-verify")
    [listed] = cleanmail("route", "list", "acme")[1]
    assert (status, listed["server"], listed["mode"], listed["verify"], listed["tenant"]) == (
        0,
        "[2001:4860::8]:26",
        "split",
        False,
        "acme",
    )
    assert cleanmail("route", "remove", "acme.test")[0] == 0
    assert cleanmail("route", "remove", "acme.test")[0] == 1
    actions = [record["action"] for record in cleanmail("log", "audit")[1]]
    assert actions.count("route.set") == 2 and "route.remove" in actions


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("mx.provider.test:2525", "itself"),
        ("127.0.0.1:2525", "itself"),
        ("loop.acme.test:2525", "itself"),
        ("two words", "neither a host name"),
        ("mail.acme.test:0", "65535"),
        ("mail.acme.test:smtp", "no port"),
        ("[::1", "[IPV6]:PORT"),
        ("[::1]25", "[IPV6]:PORT"),
    ],
)
def test_what_is_refused(cleanmail: Run, server: str, why: str) -> None:
    status, _, said = cleanmail("route", "set", "acme.test", "--server", server)
    assert status == 1 and why in said
    assert cleanmail("route", "list")[1] == []


@pytest.mark.parametrize("server", ["127.0.0.1:25", "mail.acme.test", "nowhere.acme.test", "192.168.1.5"])
def test_a_server_that_mail_cannot_reach_yet_may_be_set(cleanmail: Run, server: str) -> None:
    assert cleanmail("route", "set", "acme.test", "--server", server)[0] == 0


def test_people_are_told_what_it_means(cleanmail: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(tmp_path / "data"), "route", "set", "acme.test", "--server", "mail.acme.test"]
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    assert "all mail goes to mail.acme.test:25" in said.out
    assert "no public address" in said.err and "1 account(s)" in said.err
