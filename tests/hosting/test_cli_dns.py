"""cleanmail dkim and cleanmail dns on a real installation, with a name server that has what they ask for."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_server import DnsServer, Lie

from hosting import cli, composition
from hosting.config import load
from hosting.dkim_round import dkim_round
from storage.directory.dkim_keys import RETIRING_FOR, SEEN_FOR, DkimState
from storage.values import Domain

Run = Callable[..., Any]

HOST = "mail.host.test"


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        server.put(HOST, A="192.0.2.1")
        server.put("1.2.0.192.in-addr.arpa", PTR=f"{HOST}.")
        yield server


@pytest.fixture
def data(tmp_path: Path, server: DnsServer) -> Path:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(
        f'[server]\nhostname = "{HOST}"\n[dns]\nnameservers = ["127.0.0.1"]\nport = {server.port}\ntimeout = 1.0\n'
    )
    return data


@pytest.fixture
def cleanmail(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """With a tenant and its domain acme.test."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    for arguments in (["init"], ["tenant", "create", "acme"], ["domain", "add", "acme", "acme.test", "--verified"]):
        assert run(*arguments).status == 0
    return run


def publish(server: DnsServer, cleanmail: Run) -> None:
    """What `dns records` prints, no more and no less."""
    for record in cleanmail("dns", "records", "acme.test", "--json").json["records"]:
        server.put(record["name"], **{record["type"]: []})
    for record in cleanmail("dns", "records", "acme.test", "--json").json["records"]:
        server.zone[record["name"]][record["type"]].append(record["zone"])  # type: ignore[union-attr]


def states(cleanmail: Run) -> dict[str, str]:
    return {row["selector"]: row["state"] for row in cleanmail("dkim", "list", "acme.test", "--json").json}


def test_a_domain_is_brought_into_dns(cleanmail: Run, server: DnsServer) -> None:
    made = cleanmail("dkim", "create", "acme.test", "--json").json["keys"]
    assert [key["algorithm"] for key in made] == ["rsa", "ed25519"]
    assert set(states(cleanmail).values()) == {"made"}

    before = cleanmail("dns", "check", "acme.test")
    assert before.status == 1 and "wrong or missing" in before.err
    publish(server, cleanmail)
    after = cleanmail("dns", "check", "acme.test")
    assert after.status == 0, after.out
    assert after.err.count("signs from now on") == 2 and "All that acme.test needs is right" in after.err
    assert set(states(cleanmail).values()) == {"signing"}

    lines = after.out.splitlines()
    assert lines[0].split() == ["state", "needed", "type", "name", "found", "expected", "note"]
    assert len({line.index("required") for line in lines if "required" in line}) == 1
    found = cleanmail("dns", "check", "acme.test", "--json").json
    assert {row["state"] for row in found} == {"right", "unused"}
    assert {"kind", "state", "importance", "type", "name", "expected", "found", "note"} == set(found[0])


def test_a_rotation_from_made_to_retired(cleanmail: Run, server: DnsServer, data: Path) -> None:
    [old] = cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519", "--json").json["keys"]
    publish(server, cleanmail)
    assert cleanmail("dns", "check", "acme.test").status == 0
    [new] = cleanmail("dkim", "rotate", "acme.test", "--json").json["keys"]
    assert cleanmail("dkim", "rotate", "acme.test").status == 1  # one waits already
    refused = cleanmail("dkim", "activate", "acme.test", new["selector"])
    assert refused.status == 1 and "no TXT record" in refused.err
    assert states(cleanmail) == {old["selector"]: "signing", new["selector"]: "made"}

    publish(server, cleanmail)
    assert cleanmail("dns", "check", "acme.test").status == 0
    assert states(cleanmail)[new["selector"]] == "seen"
    assert "signs from" in cleanmail("dkim", "list").out
    assert cleanmail("dkim", "activate", "acme.test", new["selector"]).status == 0
    assert states(cleanmail) == {old["selector"]: "retiring", new["selector"]: "signing"}

    age(data, RETIRING_FOR)
    assert states(cleanmail) == {old["selector"]: "retired", new["selector"]: "signing"}
    retired = f"{old['selector']}._domainkey.acme.test."
    [line] = [line for line in cleanmail("dns", "records", "acme.test").out.splitlines() if line.startswith(retired)]
    assert line.endswith('"v=DKIM1; k=ed25519; p="')
    actions = [row["action"] for row in cleanmail("log", "audit", "--json").json]
    assert [action for action in actions if action.startswith("dkim.")] == [
        "dkim.create",
        "dkim.progress",
        "dkim.rotate",
        "dkim.progress",
        "dkim.activate",
    ]


def age(data: Path, seconds: int) -> None:
    """As if so much time had passed since the keys came to their states; then the jobs role looks at them."""
    config = load(data / "cleanmail.toml")
    with composition.administration(data, config) as administration:
        row = administration.control.domain(Domain.parse("acme.test"))
        database = administration.installation.tenant(row.tenant_id)._database
        database.write(lambda t: t.driver.execute("UPDATE dkim_key SET changed = changed - ?", (seconds,)))
        dkim_round(administration.installation, config.dns)


def test_the_jobs_role_sees_keys_by_itself(cleanmail: Run, server: DnsServer, data: Path) -> None:
    cleanmail("dkim", "create", "acme.test", "--algorithm", "rsa")
    age(data, 0)
    assert set(states(cleanmail).values()) == {"made"}
    server.lie("*", Lie(rcode="SERVFAIL"))
    age(data, 0)
    assert set(states(cleanmail).values()) == {"made"}
    server.lie("*", None)
    publish(server, cleanmail)
    age(data, 0)
    assert set(states(cleanmail).values()) == {"signing"}
    cleanmail("dkim", "rotate", "acme.test")
    publish(server, cleanmail)
    age(data, 0)
    assert sorted(states(cleanmail).values()) == ["seen", "signing"]
    age(data, SEEN_FOR)
    assert sorted(states(cleanmail).values()) == ["retiring", "signing"]


def test_check_waits_until_the_records_are_there(cleanmail: Run, server: DnsServer) -> None:
    cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519")
    records = cleanmail("dns", "records", "acme.test", "--json").json["records"]
    pause = threading.Event()

    def appear() -> None:
        """The records one after another, each when somebody has asked for it in vain."""
        for record in records:
            asked = "A" if record["type"] == "CNAME" else record["type"]
            while not server.questions[record["name"], asked]:
                pause.wait(0.01)
            server.zone.setdefault(record["name"], {}).setdefault(record["type"], [])
            server.zone[record["name"]][record["type"]] += [record["zone"]]  # type: ignore[operator]

    asker = threading.Thread(target=appear, daemon=True)
    server.ttl = 0
    asker.start()
    found = cleanmail("dns", "check", "acme.test", "--wait", "--timeout", "30", "--every", "0.1")
    asker.join(10)
    assert found.status == 0, found.err
    assert "signs from now on" in found.err


def test_waiting_ends(cleanmail: Run) -> None:
    found = cleanmail("dns", "check", "acme.test", "--wait", "--timeout", "0.3", "--every", "0.1")
    assert found.status == 1
    assert "Waiting for MX acme.test" in found.err and found.err.count("Waiting for") == 1


def test_without_dns_it_says_what_it_cannot_know(cleanmail: Run, server: DnsServer) -> None:
    server.lie("*", Lie(rcode="SERVFAIL"))
    cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519")
    found = cleanmail("dns", "check", "acme.test")
    assert found.status == 3 and "may be right" in found.err
    assert {line.split()[0] for line in found.out.splitlines()[1:]} == {"unknown"}
    [selector] = states(cleanmail)
    assert cleanmail("dkim", "activate", "acme.test", selector).status == 3
    records = cleanmail("dns", "records", "acme.test")
    assert records.status == 0 and "No MTA-STS record, since DNS does not answer" in records.out


def test_a_pending_domain(cleanmail: Run, server: DnsServer) -> None:
    cleanmail("domain", "add", "acme", "new.test")
    [record] = [
        record
        for record in cleanmail("dns", "records", "new.test", "--json").json["records"]
        if record["kind"] == "ownership"
    ]
    server.put(record["name"], TXT=record["value"])
    found = {row["kind"]: row for row in cleanmail("dns", "check", "new.test", "--json").json}
    assert found["ownership"]["state"] == "right"
    assert cleanmail("domain", "verify", "new.test").status == 0


def test_retiring(cleanmail: Run, server: DnsServer) -> None:
    cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519")
    [selector] = states(cleanmail)
    discarded = cleanmail("dkim", "retire", "acme.test", selector)
    assert "was discarded" in discarded.out and states(cleanmail) == {}
    cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519")
    publish(server, cleanmail)
    cleanmail("dns", "check", "acme.test")
    [selector] = states(cleanmail)
    retired = cleanmail("dkim", "retire", "acme.test", selector)
    assert "its record stays until" in retired.out and "leaves unsigned" in retired.err
    assert states(cleanmail) == {selector: DkimState.RETIRING.value}
    assert cleanmail("dkim", "activate", "acme.test", selector).status == 0
    revoked = cleanmail("dkim", "retire", "acme.test", selector, "--at-once")
    assert "is retired: publish its record with an empty p=" in revoked.out
    assert cleanmail("dkim", "activate", "acme.test", selector).status == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["dkim", "create", "elsewhere.test"], 1),
        (["dkim", "create", "no domain"], 1),
        (["dkim", "create", "acme.test", "--algorithm", "dsa"], 2),
        (["dkim", "rotate", "acme.test"], 1),
        (["dkim", "activate", "acme.test", "nobody"], 1),
        (["dkim", "retire", "acme.test", "nobody"], 1),
        (["dkim", "list", "elsewhere.test"], 1),
        (["dns", "records", "elsewhere.test"], 1),
        (["dns", "check", "elsewhere.test"], 1),
    ],
)
def test_refusals(cleanmail: Run, arguments: list[str], status: int) -> None:
    found = cleanmail(*arguments)
    assert found.status == status and "Traceback" not in found.err


def test_a_signing_key_is_not_made_twice(cleanmail: Run, server: DnsServer) -> None:
    cleanmail("dkim", "create", "acme.test", "--algorithm", "ed25519")
    publish(server, cleanmail)
    cleanmail("dns", "check", "acme.test")
    refused = cleanmail("dkim", "create", "acme.test")
    assert refused.status == 1 and "cleanmail dkim rotate acme.test" in refused.err
    assert cleanmail("dkim", "create", "acme.test", "--algorithm", "rsa").status == 0


def test_configuration_names_hosts_and_reports(cleanmail: Run, data: Path) -> None:
    with (data / "cleanmail.toml").open("a") as file:
        file.write(
            '[mail]\nexchangers = ["mx1.host.test", "mx2.host.test"]\nspf_include = "_spf.host.test"\n'
            'reports = "reports@host.test"\ncertificate_authorities = []\n'
        )
    text = cleanmail("dns", "records", "acme.test").out
    assert "IN MX  10 mx1.host.test." in text and "IN MX  20 mx2.host.test." in text
    assert '"v=spf1 include:_spf.host.test ~all"' in text and "mailto:reports@host.test" in text and "CAA" not in text
    (data / "cleanmail.toml").write_text('[mail]\nexchangers = ["mx1"]\nreports = "nobody"\n')
    refused = cleanmail("dns", "records", "acme.test")
    assert refused.status == 1 and "mail.exchangers" in refused.err and "mail.reports" in refused.err
