"""cleanmail quarantine: what operators see and do, on a real installation; headers only, each look an audit record."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from review_town import ADAM, EVE, RITA, becoming

from hosting import cli
from hosting.administration import Administration
from hosting.composition import administration
from hosting.config import load
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld, Onward, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import UID_MAX, AccountId, EmailAddress, TenantId

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
ACCOUNTS = {"ada@acme.test": (1, 1), "bob@acme.test": (1, 2), "zoe@zeta.test": (2, 3)}


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Installation:
    """Rita, who has a secrecy agreement, sits at its command line."""

    def __init__(self, data: Path, run: Callable[..., Outcome], become: Callable[[int], None]) -> None:
        self.data = data
        self.run = run
        self.become = become

    @contextmanager
    def opened(self) -> Iterator[Administration]:
        with administration(self.data, load(self.data / "cleanmail.toml")) as found:
            yield found

    def hold(self, subject: str, *addresses: str, sender: str = "stranger@far.example", reason: str = "spam") -> str:
        """Withheld from accounts of one tenant."""
        to = addresses or ("ada@acme.test",)
        with self.opened() as found:
            clock = found.installation.clock
            recipients = [
                WithheldFor(
                    EmailAddress.parse(address),
                    Onward(Way.MAILBOX, AccountId(ACCOUNTS[address][1])),
                    reason,
                    "Its content is that of spam.",
                    "It would have passed from a sender that you write to.",
                )
                for address in to
            ]
            data = f"From: A Stranger <{sender}>\r\nSubject: {subject}\r\n\r\nthe secret body\r\n".encode()
            new = NewWithheld(
                new_queue_id(clock),
                EmailAddress.parse(sender),
                EnvelopeParameters(),
                tuple(recipients),
                clock.now() + 86_400,
                b"Received: by us\r\n",
                data,
                4.25,
                {"client": "192.0.2.1", "spf": "pass"},
            )
            return Quarantine(found.installation).keep(TenantId(ACCOUNTS[to[0]][0]), new)

    def inbox(self, address: str) -> list[bytes]:
        tenant_id, account_id = ACCOUNTS[address]
        with self.opened() as found, found.installation.account(TenantId(tenant_id), AccountId(account_id)) as account:
            inbox = account.mailboxes.find("INBOX")
            ids = account.messages.fetch_rows(inbox.id, 1, UID_MAX, ("message_id",))
            return [account.messages.read_message(id_) for (id_,) in ids]

    def audited(self, *, lists: bool = False) -> list[tuple[str, Any]]:
        found = [(record["action"], record["details"]) for record in self.run("--json", "log", "audit").json]
        return [each for each in found if each[0].startswith("quarantine.") and (lists or "list" not in each[0])]


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Installation:
    data = tmp_path / "data"

    def run(*arguments: str, said: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        output = capsys.readouterr()
        return Outcome(status, output.out, output.err)

    def become(uid: int) -> None:
        becoming(monkeypatch, tmp_path / "proc", uid)

    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    (tmp_path / "signed").write_text("I keep secret what I see.")
    become(ADAM)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["tenant", "create", "zeta", "--name", "Zeta"],
        ["domain", "add", "acme", "acme.test"],
        ["domain", "add", "zeta", "zeta.test"],
        *(["account", "create", address, "--without-password"] for address in ACCOUNTS),
        ["review", "agreement", "record", str(RITA), "--document", str(tmp_path / "signed")],
    ):
        assert run(*arguments).status == 0
    become(RITA)
    return Installation(data, run, become)


def ids(here: Installation, *arguments: str) -> list[str]:
    return [row["id"] for row in here.run("quarantine", *arguments, "--json").json]


def test_an_empty_quarantine(here: Installation) -> None:
    assert here.run("quarantine", "list").err == "Nothing is withheld.\n"
    assert here.run("quarantine", "list", "--tenant", "acme").err == "Nothing that is withheld is like that.\n"
    assert here.run("quarantine", "search", "x").err == "Nothing that is withheld is like that.\n"
    assert ids(here, "list") == []
    rows = here.run("quarantine", "summary", "--json").json
    assert [(row["tenant"], row["messages"], row["full"]) for row in rows] == [("acme", 0, 0), ("zeta", 0, 0)]


def test_list(here: Installation) -> None:
    first = here.hold("Erste Nachricht", "ada@acme.test", "bob@acme.test")
    second = here.hold("Second", "zoe@zeta.test", sender="other@near.example", reason="malware")
    third = here.hold("Third \x1b[31mred", "bob@acme.test")
    lines = here.run("quarantine", "list").out.splitlines()
    assert lines[0].split() == ["id", "tenant", "received", "reason", "from", "to", "subject"]
    assert [line.split()[:2] for line in lines[1:4]] == [[third, "acme"], [second, "zeta"], [first, "acme"]]
    assert "ada@acme.test and 1 more" in lines[3] and "\x1b" not in "".join(lines)
    assert "secret body" not in "".join(lines)
    for arguments, expected in (
        (["list"], [third, second, first]),
        (["list", "--tenant", "zeta"], [second]),
        (["list", "--account", "ada@acme.test"], [first]),
        (["list", "--account", "bob@acme.test", "--subject", "third"], [third]),
        (["list", "--to", "bob@acme.test"], [third, first]),
        (["list", "--to", "@zeta.test"], [second]),
        (["list", "--from", "near.example"], [second]),
        (["list", "--subject", "NACHRICHT"], [first]),
        (["list", "--reason", "malware"], [second]),
        (["list", "--state", "deleted"], []),
        (["list", "--reported"], []),
        (["list", "--since", "1h", "--until", "2100-01-01"], [third, second, first]),
        (["list", "--until", "2020-01-01"], []),
        (["list", "--before", third], [second, first]),
        (["search", "zoe@"], [second]),
        (["search", "nachricht", "--tenant", "acme"], [first]),
        (["search", "nachricht", "--tenant", "zeta"], []),
    ):
        assert ids(here, *arguments) == expected, arguments
    limited = here.run("quarantine", "list", "--limit", "2")
    assert f"go on with --before {second}" in limited.err
    for wrong in (
        ["list", "--tenant", "nobody"],
        ["list", "--account", "nobody@acme.test"],
        ["list", "--account", "ada@acme.test", "--tenant", "zeta"],
        ["list", "--to", "nobody"],
        ["search", " "],
    ):
        assert here.run("quarantine", *wrong).status == 1, wrong
    assert here.run("quarantine", "list", "--reason", "weather").status == 2


def test_show(here: Installation) -> None:
    quarantine_id = here.hold("=?utf-8?q?gr=C3=BCn?=", "ada@acme.test", "bob@acme.test")
    values = here.run("quarantine", "show", quarantine_id, "--json").json
    assert (values["tenant"], values["sender"], values["score"]) == ("acme", "stranger@far.example", 4.25)
    assert values["facts"] == {"client": "192.0.2.1", "spf": "pass"}
    assert [(each["address"], each["goes_to"], each["state"]) for each in values["recipients"]] == [
        ("ada@acme.test", "ada@acme.test", "held"),
        ("bob@acme.test", "bob@acme.test", "held"),
    ]
    assert values["header"][-1] == {"name": "Subject", "value": "grün"}
    shown = here.run("quarantine", "show", quarantine_id, "--tenant", "acme")
    assert "Its content is that of spam." in shown.out and "Subject: grün" in shown.out
    assert "It would have passed from a sender that you write to.\n" in shown.out and not shown.err
    assert "secret body" not in json.dumps(values) + shown.out + shown.err
    assert here.audited() == [("quarantine.view", {"id": quarantine_id, "header": "yes"})] * 4  # twice, of two
    for missing in (["show", "nothing"], ["show", quarantine_id, "--tenant", "zeta"]):
        outcome = here.run("quarantine", *missing)
        assert (outcome.status, outcome.err) == (1, "cleanmail: There is no such message in the quarantine.\n")
    assert len(here.audited()) == 4


def test_release(here: Installation) -> None:
    first, second = here.hold("First"), here.hold("Second", "zoe@zeta.test")
    assert here.run("quarantine", "release", first).out == f"{first} is released.\n"
    assert here.run("quarantine", "release", first).status == 1
    [message] = here.inbox("ada@acme.test")
    assert b"X-Cleanmail-Released: by administrator;" in message and b"the secret body" in message
    found = here.run("quarantine", "release", second, "--allow", "--json").json
    assert found == {"messages": [{"id": second, "outcome": "released", "error": None}]}
    with here.opened() as opened:
        [entry] = opened.installation.tenant(TenantId(2)).filter_rules.entries()
        assert (entry.pattern, entry.kind) == ("stranger@far.example", "allow")
    assert here.audited() == [
        ("quarantine.release", {"id": first}),
        ("quarantine.release", {"id": second, "allow": "yes"}),
    ]
    [trace] = here.run("trace", first, "--json").json
    assert sorted(event["kind"] for event in trace["events"]) == ["delivered", "received", "released"]


def test_batches(here: Installation) -> None:
    held = [here.hold(f"Offer {number}") for number in range(3)]
    other = here.hold("Newsletter")
    refused = here.run("quarantine", "delete", "--subject", "offer")
    assert refused.status == 1 and "--yes" in refused.err and len(ids(here, "list")) == 4
    for nothing in (["delete"], ["release"], ["delete", "--yes"], ["delete", held[0], "--subject", "offer"]):
        assert here.run("quarantine", *nothing).status == 1, nothing
    assert here.run("quarantine", "delete", "--subject", "offer", "--yes").out == "3 messages were deleted.\n"
    assert here.run("quarantine", "delete", "--subject", "offer", "--yes").out == "0 messages were deleted.\n"
    assert ids(here, "list") == [other]
    assert sorted(details["id"] for _, details in here.audited()) == held
    more = [here.hold("One"), here.hold("Two", "zoe@zeta.test")]
    assert here.run("quarantine", "release", *more, more[0]).out == "2 messages were released.\n"
    assert here.run("quarantine", "release", other, "nothing").status == 1
    assert ids(here, "list") == [other], "a wrong id releases nothing"
    assert here.run("quarantine", "release", "--tenant", "acme", "--yes").out == f"{other} is released.\n"


def test_what_cannot_be_done_in_a_batch_is_said(here: Installation) -> None:
    good, lost = here.hold("Good"), here.hold("Lost")
    for path in (here.data / "tenants" / "1" / "quarantine").glob(f"{lost}*"):
        path.unlink()
    outcome = here.run("quarantine", "release", good, lost)
    assert (outcome.status, outcome.out) == (1, "1 message was released.\n")
    assert outcome.err.endswith(f"{lost}: Stored data cannot be read; the operator has been told.\n")
    alone = here.run("quarantine", "release", lost)
    assert alone.status != 0 and alone.out == ""
    assert here.run("check").status == 4


def test_report(here: Installation) -> None:
    first, second = here.hold("First"), here.hold("Second")
    assert here.run("quarantine", "report", first).out == f"{first} is reported.\n"
    assert here.run("quarantine", "report", first).out == f"{first} is reported before.\n"
    assert here.run("quarantine", "report", first, second).out == "2 messages were reported.\n"
    assert here.run("quarantine", "report").status == 2
    assert ids(here, "list", "--reported") == [second, first]
    assert [row["reported"] for row in here.run("quarantine", "summary", "--json").json] == [2, 0]
    here.run("quarantine", "delete", second)
    assert ids(here, "list", "--not-reported") == []


def test_summary(here: Installation) -> None:
    (here.data / "cleanmail.toml").write_text(f"{CHEAP}[filter]\nquarantine_messages = 4\n")
    here.hold("First")
    here.hold("Second", reason="malware")
    lines = here.run("quarantine", "summary").out.splitlines()
    assert lines[0].split() == ["tenant", "messages", "size", "full", "oldest", "reported", "reasons"]
    assert "50 %" in lines[1] and "1 malware, 1 spam" in lines[1]
    assert [row["tenant"] for row in here.run("quarantine", "summary", "--tenant", "zeta", "--json").json] == ["zeta"]


def test_lists_are_records_too(here: Installation) -> None:
    ids(here, "list", "--tenant", "acme", "--reason", "spam")
    here.run("quarantine", "release", "--tenant", "acme", "--subject", "x", "--yes")
    assert here.audited(lists=True) == [
        ("quarantine.list", {"reason": "spam", "header": "yes"}),
        ("quarantine.list", {"header": "yes"}),
    ]


# Whose agreement is not in force, and the user that the server runs as, who is nobody's name.
UNAGREED = [EVE, os.getuid()]
ONLY = "Subjects and header lines are for people with a recorded secrecy agreement (cleanmail review agreement record"


@pytest.mark.parametrize("uid", UNAGREED, ids=["no-agreement", "server-user"])
def test_without_an_agreement_nothing_of_a_header_is_shown(here: Installation, uid: int) -> None:
    """Not by any command, neither as text nor as JSON, nor by the number of messages that are found."""
    first, second, third = (here.hold(f"hiddensubject {number}") for number in range(3))
    hidden = ("hiddensubject", "A Stranger", "Received", "by us")
    here.become(uid)
    said: list[str] = []

    def run(*arguments: str, status: int = 0) -> Outcome:
        outcome = here.run("quarantine", *arguments)
        assert outcome.status == status, (arguments, outcome.err)
        said.append(outcome.out + outcome.err)
        return outcome

    listed = run("list")
    assert listed.out.splitlines()[0].split() == ["id", "tenant", "received", "reason", "sender", "to", "subject"]
    assert listed.out.splitlines()[1].split()[4:] == ["stranger@far.example", "ada@acme.test", "-"]
    assert listed.err.count(ONLY) == 1
    assert ("server runs as" in listed.err) == (uid == os.getuid())
    for rows in (run("list", "--json").json, run("search", "far.example", "--json").json):
        assert [row["id"] for row in rows] == [third, second, first]
        assert {(row["subject"], row["from"], row["sender"]) for row in rows} == {(None, None, "stranger@far.example")}
    for found in (("search", "hiddensub"), ("search", "a stranger"), ("list", "--from", "a stranger")):
        assert run(*found, "--json").json == []
        assert "Only the addresses of the envelope were searched." in run(*found).err
    assert run("delete", "--from", "a stranger", "--yes").out == "0 messages were deleted.\n"
    for asked in (("list",), ("release", "--yes"), ("delete", "--yes"), ("delete",)):
        for format_ in ((), ("--json",)):
            refused = here.run("quarantine", *asked, "--subject", "hiddensub", *format_)
            assert (refused.status, refused.out) == (1, "") and refused.err.count(ONLY) == 1
            said.append(refused.err)
    shown = run("show", first)
    assert "Its content is that of spam." in shown.out and "Header" not in shown.out and shown.err.count(ONLY) == 1
    assert "It would have passed from a sender that you write to.\n" in shown.out
    values = run("show", first, "--json").json
    assert (values["header"], values["sender"], values["reason"]) == (None, "stranger@far.example", "spam")
    assert values["recipients"][0]["counterfactual"] == "It would have passed from a sender that you write to."
    assert ONLY in run("release", first, "--allow", status=1).err
    run("report", first)
    run("release", first, "--json")
    run("delete", second)
    run("summary")
    run("delete", "--from", "far.example", "--yes", "--json")
    for text in said:
        assert not [token for token in hidden if token in text], text
    assert ids(here, "list") == []
    with here.opened() as opened:
        assert opened.installation.tenant(TenantId(1)).filter_rules.entries() == []
    views = [
        details for action, details in here.audited(lists=True) if action in ("quarantine.list", "quarantine.view")
    ]
    assert len(views) > 10 and all("header" not in details for details in views)
    assert here.run("--json", "filter", "report").json["counts"]["viewed"] == 0


def test_with_an_agreement_a_look_is_shown_recorded_and_counted(here: Installation) -> None:
    first = here.hold("shownsubject")

    def viewed() -> int:
        count: int = here.run("--json", "filter", "report").json["counts"]["viewed"]
        return count

    listed = here.run("quarantine", "list")
    assert "shownsubject" in listed.out and "A Stranger" in listed.out and not listed.err
    [row] = here.run("quarantine", "search", "shownsub", "--json").json
    assert (row["subject"], row["from"]) == ("shownsubject", "A Stranger <stranger@far.example>")
    assert viewed() == 0, "a list shows no header lines"
    for number in range(2):
        shown = here.run("quarantine", "show", first)
        assert "Subject: shownsubject" in shown.out and not shown.err
        assert here.audited() == [("quarantine.view", {"id": first, "header": "yes"})] * (number + 1)
        assert viewed() == 1
    assert here.audited(lists=True)[0] == ("quarantine.list", {"header": "yes"})
    assert "reviewed by a person" in here.run("filter", "report").out
    here.run("quarantine", "report", first)
    assert here.run("review", "show", first, "--reason", "ticket 5").status == 0
    assert viewed() == 1, "once for a message, on which way soever"
    here.become(ADAM)
    assert here.run("review", "agreement", "end", str(RITA)).status == 0
    here.become(RITA)
    assert "shownsubject" not in here.run("quarantine", "show", first).out


def test_an_author_who_is_denied_is_not_allowed_and_leaves_no_record(here: Installation) -> None:
    held = here.hold("First")
    assert here.run("filter", "deny", "add", "stranger@far.example", "--tenant", "acme").status == 0
    refused = here.run("quarantine", "release", held, "--allow")
    assert refused.status == 1 and "is on the deny list" in refused.err
    assert here.audited() == [] and ids(here, "list") == [held]
