"""cleanmail filter explain on a real installation, with a name server of its own: facts, evidence, verdicts."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_server import DnsServer
from signing import TestSigner, seal, sign

from hosting import cli

Run = Callable[..., tuple[int, Any, str]]

SIGNER = TestSigner("example.org", "s1")
MESSAGE = (
    b"From: Ada <ada@example.org>\r\nTo: bob@acme.test\r\nSubject: Figures\r\n"
    b"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHere they are.\r\n"
)
PROGRAM = (
    b"From: Ada <ada@example.org>\r\nTo: bob@acme.test\r\nSubject: Figures\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=invoice.exe\r\n"
    b"Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nMZ\r\n"
)
HONEST = ["--client", "192.0.2.10", "--hello", "mail.example.org", "--from", "ada@example.org"]
FORGER = ["--client", "198.51.100.7", "--hello", "pc", "--from", "ada@example.org"]


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    zone = {
        "example.org": {"TXT": "v=spf1 ip4:192.0.2.10 -all", "MX": "10 mail.example.org."},
        "_dmarc.example.org": {"TXT": "v=DMARC1; p=reject"},
        "s1._domainkey.example.org": {"TXT": SIGNER.record},
        "mail.example.org": {"A": "192.0.2.10"},
        "10.2.0.192.in-addr.arpa": {"PTR": "mail.example.org."},
    }
    with DnsServer(zone) as server:
        yield server


@pytest.fixture
def cleanmail(tmp_path: Path, capsys: pytest.CaptureFixture[str], dns: DnsServer) -> Run:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(
        '[server]\nhostname = "mx.provider.test"\n[listen]\naddresses = ["127.0.0.1"]\n'
        f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
    )

    def run(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        status = cli.run(["--data", str(data), "--json", *arguments])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    assert run("init")[0] == 0
    return run


@pytest.fixture
def town(cleanmail: Run) -> Run:
    for arguments in (
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "bob@acme.test", "--without-password"],
        ["alias", "add", "all@acme.test", "bob@acme.test", "bob@elsewhere.test"],
    ):
        assert cleanmail(*arguments)[0] == 0
    return cleanmail


def explained(cleanmail: Run, tmp_path: Path, message: bytes, *options: str) -> tuple[dict[str, Any], list[Any]]:
    path = tmp_path / "message.eml"
    path.write_bytes(message)
    status, said, error = cleanmail("filter", "explain", str(path), *options)
    assert (status, error) == (0, "")
    return said["facts"], said["verdicts"]


def test_an_honest_message(cleanmail: Run, tmp_path: Path) -> None:
    facts, [verdict] = explained(cleanmail, tmp_path, sign(MESSAGE, SIGNER), *HONEST)
    assert facts["client"]["name"] == "mail.example.org" and facts["client"]["hello_findings"] == []
    assert (facts["spf"]["result"], facts["dmarc"]["result"]) == ("pass", "pass")
    assert [each["result"] for each in facts["dkim"]] == ["pass"] and facts["author_is_proven"]
    assert (verdict["verdict"], verdict["reason"], verdict["recipient"]) == ("deliver", "nothing-against-it", None)
    assert facts["unknown"] == {}


def test_line_ends_of_a_file_break_no_signature(cleanmail: Run, tmp_path: Path) -> None:
    stored = b"From ada@example.org Thu Jan  1 10:00:00 2026\n" + sign(MESSAGE, SIGNER).replace(b"\r\n", b"\n")
    facts, _ = explained(cleanmail, tmp_path, stored, *HONEST)
    assert [each["result"] for each in facts["dkim"]] == ["pass"]


def test_a_forged_one_is_refused_and_told_how_to_be_believed(cleanmail: Run, tmp_path: Path) -> None:
    facts, [verdict] = explained(cleanmail, tmp_path, MESSAGE, *FORGER)
    assert (facts["spf"]["result"], facts["dmarc"]["result"], facts["dmarc"]["policy"]) == ("fail", "fail", "reject")
    assert (verdict["verdict"], verdict["reason"]) == ("reject", "dmarc-reject")
    assert verdict["counterfactual"] == "It would have passed with a valid DKIM signature of example.org."
    assert {"dmarc-fail", "spf-fail", "hello-bare-word"} <= {each["name"] for each in verdict["evidence"]}


def test_offline_nothing_is_known_and_nothing_refused(cleanmail: Run, tmp_path: Path, dns: DnsServer) -> None:
    dns.questions.clear()
    facts, [verdict] = explained(cleanmail, tmp_path, MESSAGE, *FORGER, "--offline")
    assert facts["spf"]["result"] == "temperror" and facts["client"]["name"] is None
    assert (verdict["verdict"], verdict["reason"]) == ("deliver", "nothing-against-it")
    assert not dns.questions


def test_offline_it_is_said_that_nobody_was_asked(
    cleanmail: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data", tmp_path / "message.eml"
    with (data / "cleanmail.toml").open("a") as settings:
        settings.write('[filter]\ndns_lists = ["list.test"]\n[filter.scanners]\nclamd = "127.0.0.1:1"\n')
    path.write_bytes(seal(sign(MESSAGE, SIGNER), SIGNER))
    assert cli.run(["--data", str(data), "filter", "explain", str(path), *HONEST, "--offline"]) == 0
    lines = [line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line.strip()]
    said = {name.strip(): value.strip() for name, value in lines}
    for name in ("client's name", "DNS lists", "SPF", "DKIM", "ARC", "DMARC", "malware"):
        assert said[name] == "not asked (--offline)", name
    assert said["Rspamd"] == "nobody was asked"  # there is none
    assert said["verdict"] == "deliver"
    path.write_bytes(MESSAGE)
    assert cli.run(["--data", str(data), "filter", "explain", str(path), *HONEST, "--offline"]) == 0
    printed = capsys.readouterr().out
    assert "not signed" in printed and "not sealed" in printed


def test_without_a_client_what_depends_on_it_is_not_known(cleanmail: Run, tmp_path: Path) -> None:
    facts, [verdict] = explained(cleanmail, tmp_path, MESSAGE)
    assert facts["client"] == {
        "address": None,
        "hello": "",
        "name": None,
        "hello_findings": [],
        "listings": [],
        "trusted": False,
    }
    assert facts["sender"] == "ada@example.org" and facts["spf"]["result"] == "temperror"
    assert (verdict["verdict"], verdict["reason"], verdict["evidence"]) == ("junk", "dmarc-reject", [])
    assert "whether this one does could not be found out" in verdict["sentence"]


def test_a_message_that_was_delivered_here_tells_from_where_it_came(cleanmail: Run, tmp_path: Path) -> None:
    prefix = (
        b"Return-Path: <ada@example.org>\r\n"
        b"Received: from mail.example.org (mail.example.org [192.0.2.10])\r\n\tby mx.provider.test with ESMTP id 1;\r\n"
        b"\tThu, 01 Jan 2026 10:00:01 +0000\r\nAuthentication-Results: mx.provider.test; spf=fail\r\n"
        b"X-Cleanmail-Verdict: reject; reason=spam\r\n"
    )
    facts, _ = explained(cleanmail, tmp_path, prefix + sign(MESSAGE, SIGNER))
    assert (facts["client"]["address"], facts["client"]["hello"]) == ("192.0.2.10", "mail.example.org")
    assert facts["spf"]["result"] == "pass" and facts["size"] == len(sign(MESSAGE, SIGNER))
    facts, _ = explained(cleanmail, tmp_path, prefix + MESSAGE, "--client", "198.51.100.7")
    assert facts["client"]["hello"] == "" and facts["spf"]["result"] == "fail"


def test_each_place_is_judged_by_its_own_rules(town: Run, tmp_path: Path) -> None:
    assert town("filter", "allow", "add", "@example.org", "--account", "bob@acme.test")[0] == 0
    assert town("filter", "policy", "set", "attachment_executable", "tag", "--tenant", "acme")[0] == 0
    assert town("filter", "deny", "add", "192.0.2.0/24", "--domain", "acme.test")[0] == 0
    _, [mailbox, forwarded] = explained(town, tmp_path, sign(PROGRAM, SIGNER), *HONEST, "--to", "all@acme.test")
    assert (mailbox["place"], mailbox["verdict"], mailbox["reason"]) == ("mailbox", "tag", "forbidden-attachment")
    assert mailbox["listed"]["pattern"] == "@example.org" and mailbox["listed"]["proven"]
    assert (forwarded["place"], forwarded["verdict"], forwarded["reason"]) == ("forwarded", "reject", "denied")
    _, [mailbox] = explained(town, tmp_path, MESSAGE, *FORGER, "--to", "bob@acme.test")
    assert not mailbox["listed"]["proven"] and mailbox["verdict"] == "reject"


def test_people_read_it_all(
    cleanmail: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROGRAM)))
    status = cli.run(["--data", str(tmp_path / "data"), "filter", "explain", "-", *FORGER])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    lines = [line.strip() for line in said.out.splitlines()]
    assert "Facts" in lines and "Evidence by the installation's rules" in lines
    for name, value in [
        ("client", "198.51.100.7"),
        ("client's name", "none that leads back"),
        ("SPF", "fail  example.org  -all"),
        ("DKIM", "not signed"),
        ("DMARC", "fail  example.org  asks for reject"),
        ("attachments", "invoice.exe"),
        ("malware", "nobody was asked"),
        ("content", "not known: there is no model"),
        ("verdict", "reject"),
        ("reason", "dmarc-reject"),
        ("why", "The sender's domain example.org asks to refuse mail that fails its checks, and this one failed."),
        (
            "otherwise",
            "It would have passed with a valid DKIM signature of example.org and without the attached file (.exe).",
        ),
    ]:
        assert any(
            line.startswith(f"{name} ") and line.split("  ", 1)[1].strip().startswith(value) for line in lines
        ), name


@pytest.mark.parametrize(
    ("arguments", "message", "why"),
    [
        (["missing.eml"], b"", "cannot be read"),
        (["message.eml"], b"\r\n", "no message"),
        (["message.eml", "--client", "mail.example.org"], MESSAGE, "no IP address"),
        (["message.eml", "--from", "nobody"], MESSAGE, "not an e-mail address"),
        (["message.eml", "--to", "nobody@acme.test"], MESSAGE, "Nobody here takes mail"),
        (["message.eml", "--to", "ada@elsewhere.test"], MESSAGE, "Nobody here takes mail"),
    ],
)
def test_what_cannot_be_explained(town: Run, tmp_path: Path, arguments: list[str], message: bytes, why: str) -> None:
    (tmp_path / "message.eml").write_bytes(message)
    status, said, error = town("filter", "explain", str(tmp_path / arguments[0]), *arguments[1:], "--offline")
    assert (status, said) == (1, None) and why in error
