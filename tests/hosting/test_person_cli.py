"""cleanmail person: what people are told and asked, who may do it, and what stands in the audit records."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from review_town import becoming
from staff_town import StaffTown, make_town, runtime_folder

from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.values import AccountId, TenantId

ANN, BEN = AccountId(1), AccountId(2)
ACME, BOLT = TenantId(1), TenantId(2)
STRANGER = "nadia-k3v@far.test"
CLIENT = "203.0.113.9"
OLGA, RITA = 20001, 20002


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("person")
    data = folder / "data"
    make_town(data)
    with pytest.MonkeyPatch.context() as patch, runtime_folder() as runtime:
        becoming(patch, folder / "proc", os.geteuid())
        town = StaffTown(data, None, patch, runtime)  # type: ignore[arg-type]
        now = int(time.time()) - 60
        with town.installation() as installation:
            for tenant_id, account_id, address in ((ACME, ANN, "ann@acme.test"), (BOLT, BEN, "ben@bolt.test")):
                event = AccessEvent(now, "sign_in", "success", "imap", tenant_id, account_id, b"", CLIENT)
                installation.access_log.record(event)
                installation.traces.record(
                    TraceEvent(now, f"q{account_id}", TraceKind.DELIVERED, tenant_id, account_id, STRANGER, address)
                )
    return data


@pytest.fixture
def town(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[StaffTown]:
    shutil.copytree(template, tmp_path / "data")
    with runtime_folder() as runtime:
        yield StaffTown(tmp_path / "data", capsys, monkeypatch, runtime)


def test_a_report_is_a_package_that_proves_itself(town: StaffTown, tmp_path: Path) -> None:
    said = town.run("person", "report", "ann@acme.test", str(tmp_path / "ann"), "--with-mail", "--json")
    assert said.json["unreadable"] == [] and said.json["counts"]["access_events"] == 1
    assert CLIENT in (tmp_path / "ann" / "report.md").read_text()
    assert town.run("person", "verify", str(tmp_path / "ann"), "--json").json["address"] == "ann@acme.test"
    key = town.run("export", "key").out.strip()
    assert town.run("person", "verify", str(tmp_path / "ann"), "--key", key).status == 0
    (tmp_path / "ann" / "report.md").write_text("changed")
    assert town.run("person", "verify", str(tmp_path / "ann")).status == 1
    refused = town.run("person", "report", "ann@acme.test", str(tmp_path / "ann"))
    assert refused.status == 1 and "no empty folder" in refused.err
    [entry, *_] = town.run("person", "requests", "ann@acme.test", "--json").json
    assert (entry["action"], entry["person"]) == ("person.report", "ann@acme.test")


def test_lines_are_for_programs(town: StaffTown) -> None:
    lines = town.run("person", "report", STRANGER, "-").out.splitlines()
    assert {json.loads(line)["class"] for line in lines[:-1]} >= {"traces"}
    assert json.loads(lines[-1])["manifest"]["address"] == STRANGER


def test_transcripts_are_for_auditors(town: StaffTown, tmp_path: Path) -> None:
    refused = town.run("person", "report", STRANGER, "-", "--transcripts", "a letter")
    assert refused.status == 1 and "auditors" in refused.err
    assert not (tmp_path / "x").exists()


def test_a_correction(town: StaffTown) -> None:
    assert town.run("person", "correct", "ann@acme.test").status == 1
    assert town.run("person", "correct", "ann@acme.test", "--name", "Ann B.", "--address", "annb@acme.test").status == 0
    assert town.run("account", "show", "annb@acme.test", "--json").json["address"] == "annb@acme.test"
    assert town.audited("person.correct") != []


def test_an_erasure_asks_a_second_person_for_records(town: StaffTown) -> None:
    town.configure("[staff]\nrequired = true\n")
    town.person("olga", "operator")
    town.person("rita", "operator")
    town.become(OLGA)
    town.signed_in("olga")
    erase = ["person", "erase", "ann@acme.test", "--reason", "letter of 4 May", "--logs", "--yes"]
    assert "--no-wait" in town.run(*erase, "--no-wait").err
    asked = town.run(*erase, "--json").json["request"]
    again = town.run("person", "report", "ann@acme.test", "-")
    assert CLIENT in again.out
    town.become(RITA)
    town.signed_in("rita")
    assert town.run("request", "approve", asked).status == 0
    town.become(OLGA)
    done = town.run(*erase)
    assert done.status == 0, done.err
    assert "access events 1" in done.out and "Stays: " in done.err and "certificate" in done.out
    assert town.run("account", "list", "--json").json[0]["address"] == "ben@bolt.test"
    events = town.run("log", "access", "--json").json
    assert {event["account_number"]: event["address"] for event in events} == {ANN: "erased", BEN: CLIENT}
    assert "ann@acme.test" not in town.run("trace", "--json").out
    assert town.run("audit", "verify").status == 0


def test_a_stranger(town: StaffTown) -> None:
    assert town.run("filter", "deny", "add", STRANGER, "--tenant", "acme").status == 0
    done = town.run("person", "erase", STRANGER, "--reason", "a letter", "--yes", "--json").json
    assert done["erased"] == {"settings": 1} and done["failed"] == []
    assert {"audit", "traces"} <= {each["class"] for each in done["stays"]}
    [first, last] = town.run("person", "requests", STRANGER, "--json").json
    assert (first["action"], first["reason"], last["action"]) == ("person.erase", "a letter", "person.erased")
    assert STRANGER not in town.run("person", "requests").out


def test_what_is_said_of_an_account_is_no_contradiction(town: StaffTown) -> None:
    for address, beside in (("ann@acme.test", "settings 1"), ("ben@bolt.test", "nothing else was found")):
        if address.startswith("ann"):
            assert town.run("filter", "deny", "add", address, "--tenant", "bolt").status == 0
        done = town.run("person", "erase", address, "--reason", "a letter", "--yes")
        assert done.status == 0, done.err
        assert f"Erased of {address} beside the account: {beside}." in done.out
        assert f"The account {address} is gone" in done.out
    done = town.run("person", "erase", STRANGER, "--reason", "a letter", "--yes")
    assert f"Erased of {STRANGER}: nothing was found." in done.out


def test_it_is_typed_where_nobody_said_yes(town: StaffTown) -> None:
    refused = town.run("person", "erase", STRANGER, "--reason", "a letter")
    assert refused.status == 1 and "--yes" in refused.err
    assert town.audited("person.erase") == []


def test_an_administrator_of_another_customer_gets_nothing(town: StaffTown, tmp_path: Path) -> None:
    town.configure("[staff]\nrequired = true\n")
    town.person("tina", "tenant_administrator", tenant=2)
    town.become(RITA)
    town.signed_in("tina")
    for address in ("ann@acme.test", STRANGER):
        said = town.run("person", "report", address, "-")
        assert said.status == 0, said.err
        assert "acme" not in said.out.replace("ann@acme.test", "") and '"q1"' not in said.out
        items = [json.loads(line) for line in said.out.splitlines()[:-1]]
        assert {item["class"] for item in items} <= {"traces", "transcripts"}
    own = town.run("person", "report", "ben@bolt.test", "-")
    assert own.status == 0 and CLIENT in own.out
    for command in (
        ["person", "report", STRANGER, str(tmp_path / "x")],
        ["person", "report", STRANGER, "-", "--tenant", "acme"],
        ["person", "report", STRANGER, "-", "--staff", "olga"],
        ["person", "erase", "ben@bolt.test", "--reason", "x", "--yes"],
        ["person", "correct", "ann@acme.test", "--name", "x"],
    ):
        assert town.run(*command).status == 1, command
    assert not (tmp_path / "x").exists()
    before = len(town.audited("audit.read"))
    assert town.run("person", "requests", "--json").json != []
    assert town.run("person", "requests", "ben@bolt.test", "--json").json != []
    assert town.audited("audit.read")[before:] == [("audit.read", "tina")] * 2


def test_support_may_not(town: StaffTown) -> None:
    town.configure("[staff]\nrequired = true\n")
    town.person("sam", "support")
    town.become(RITA)
    town.signed_in("sam")
    for command in (["report", STRANGER, "-"], ["erase", STRANGER, "--reason", "x", "--yes"], ["requests"]):
        assert town.run("person", *command).status == 1
