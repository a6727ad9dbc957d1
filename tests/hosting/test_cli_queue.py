"""cleanmail queue: what operators see and do, on a real installation; each change an audit record and in the trace."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from hosting import cli
from hosting.administration import Administration
from hosting.composition import administration
from hosting.config import load
from storage.database.prepared import prepare
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientState,
    Reply,
    new_queue_id,
)
from storage.schema import queue as schema
from storage.values import AccountId, Domain, EmailAddress, TenantId

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
SILENT = Reply(0, "4.4.1", "The server does not answer.")
BUSY = Reply(451, "4.3.0", "try again", "mx.far.example")


class Installation:
    def __init__(self, data: Path, run: Callable[..., Any]) -> None:
        self.data = data
        self.run = run

    @contextmanager
    def opened(self) -> Iterator[Administration]:
        with administration(self.data, load(self.data / "cleanmail.toml")) as found:
            yield found

    def enqueue(self, *addresses: str, tenant: int = 1, sender: str | None = "ada@acme.test") -> str:
        with self.opened() as found:
            clock = found.installation.clock
            new = NewEntry(
                new_queue_id(clock),
                TenantId(tenant),
                AccountId(1) if tenant == 1 and sender else None,
                Origin.SUBMISSION if sender else Origin.NOTICE,
                EmailAddress.parse(sender) if sender else None,
                EnvelopeParameters(),
                tuple(NewRecipient(EmailAddress.parse(address)) for address in addresses),
                clock.now() + 86_400,
                b"Subject: hello\r\n\r\nText\r\n",
            )
            found.installation.queue.enqueue([new])
            return new.queue_id

    def trace(self, queue_id: str) -> list[tuple[str, str]]:
        [trace] = self.run("--json", "trace", queue_id).json
        return [(event["kind"], event.get("recipient", "")) for event in trace["events"]]

    def audited(self) -> list[tuple[str, Any]]:
        """Changes; looking is recorded, too."""
        found = [each for each in self.run("--json", "log", "audit").json if each["action"] != "queue.show"]
        return [(record["action"], record["details"]) for record in found if record["action"].startswith("queue.")]


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Installation:
    data = tmp_path / "data"

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme", "--name", "ACME Ltd"],
        ["tenant", "create", "zeta", "--name", "Zeta"],
    ):
        assert run(*arguments).status == 0
    return Installation(data, run)


def test_an_empty_queue(here: Installation) -> None:
    assert here.run("queue", "list").err == "The queue is empty.\n"
    assert here.run("queue", "list", "--held").err == "No entry in the queue is like that.\n"
    assert here.run("queue", "list", "--json").json == []
    assert here.run("queue", "destinations").err == "Every destination that was tried answers.\n"
    assert here.run("queue", "retry", "--all").out == "0 recipients will be tried now.\n"


def test_list(here: Installation) -> None:
    first = here.enqueue("bob@far.example", "carol@near.example")
    second = here.enqueue("dave@far.example", tenant=2)
    here.run("queue", "hold", first)
    rows = here.run("queue", "list", "--json").json
    assert [(row["id"], row["tenant"], row["held"]) for row in rows] == [(first, "acme", True), (second, "zeta", False)]
    assert rows[0]["recipients"] == {"held": 2}

    def listed(*options: str) -> list[str]:
        return [row["id"] for row in here.run("queue", "list", "--json", *options).json]

    assert listed("--held") == [first]
    assert listed("--not-held") == [second]
    assert listed("--tenant", "zeta") == [second]
    assert listed("--destination", "far.example") == [second]
    assert listed("--destination", "FAR.example", "--held") == [first]
    assert listed("--after", first) == [second]
    limited = here.run("queue", "list", "--limit", "1")
    assert f"go on with --after {first}" in limited.err
    lines = here.run("queue", "list").out.splitlines()
    assert lines[0].split() == ["id", "tenant", "account", "size", "arrived", "next", "attempt", "recipients"]
    assert lines[1].split()[0] == first and lines[1].rstrip().endswith("2 held")
    assert len({line.index("acme" if "acme" in line else "zeta") for line in lines[1:3]}) == 1
    assert "bob" not in "".join(lines)
    assert here.run("queue", "list", "--tenant", "acme", "--destination", "far.example").status == 1


def test_show(here: Installation) -> None:
    queue_id = here.enqueue("bob@far.example", "carol@near.example")
    with here.opened() as found:
        queue, now = found.installation.queue, found.installation.clock.now()
        queue.postpone(queue.show(queue_id), {0: (now + 60, BUSY)})
        queue.settle(queue.show(queue_id), {1: (RecipientState.RELAYED, Reply(250, "2.0.0", "Ok"))})
        queue.destination_failed("far.example", now + 600, SILENT)
    values = here.run("queue", "show", queue_id, "--json").json
    assert (values["from"], values["tenant"], values["held"]) == ("ada@acme.test", "acme", False)
    bob, carol = values["recipients"]
    assert (bob["address"], bob["state"], bob["attempts"]) == ("bob@far.example", "queued", 1)
    assert bob["reply"] == "mx.far.example said: 451 4.3.0 try again"
    assert (carol["state"], carol["next_attempt"], carol["reply"]) == ("relayed", None, "250 2.0.0 Ok")
    shown = here.run("queue", "show", queue_id)
    assert "bob@far.example" in shown.out and "mx.far.example said: 451 4.3.0 try again" in shown.out
    assert "far.example does not answer since" in shown.err
    [state] = here.run("queue", "destinations", "--json").json
    assert (state["destination"], state["failures"]) == ("far.example", 1)
    assert bob["next_attempt"] == state["retry_at"]  # when both are due
    assert "The server does not answer." in here.run("queue", "destinations").out
    missing = here.run("queue", "show", "nothing")
    assert (missing.status, missing.err) == (1, "cleanmail: There is no such entry in the queue.\n")


def test_hold_and_release(here: Installation) -> None:
    queue_id = here.enqueue("bob@far.example", "carol@near.example")
    assert here.run("queue", "hold", queue_id).out == f"{queue_id} is held.\n"
    assert here.run("queue", "hold", queue_id).out == f"{queue_id} is held already.\n"
    assert here.run("queue", "release", queue_id).out == f"{queue_id} is released.\n"
    assert here.run("queue", "release", queue_id, "--json").json == {"id": queue_id, "held": False, "changed": False}
    assert here.trace(queue_id) == [
        ("held", "bob@far.example"),
        ("held", "carol@near.example"),
        ("released", "bob@far.example"),
        ("released", "carol@near.example"),
    ]
    actions = ["queue.hold", "queue.hold", "queue.release", "queue.release"]
    assert here.audited() == [(action, {"id": queue_id}) for action in actions]
    assert here.run("queue", "hold", "nothing").status == 1


def test_retry(here: Installation) -> None:
    first, second = here.enqueue("bob@far.example"), here.enqueue("bob@near.example", tenant=2)
    with here.opened() as found:
        queue, later = found.installation.queue, found.installation.clock.now() + 5000
        for queue_id in (first, second):
            queue.postpone(queue.show(queue_id), {0: (later, BUSY)})
        queue.destination_failed("near.example", later, SILENT)
    assert here.run("queue", "retry", first).out == "1 recipient will be tried now.\n"
    assert here.run("queue", "retry", "--destination", "near.example", "--json").json == {"recipients": 1}
    assert here.run("queue", "destinations", "--json").json == []
    assert here.run("queue", "retry", "--tenant", "acme").status == 0
    assert here.run("queue", "retry", "--all").out == "2 recipients will be tried now.\n"
    for empty in ("--tenant", "--destination"):  # a shell's variable that was not set is not everything
        assert here.run("queue", "retry", empty, "").status == 1
    assert here.run("queue", "retry").status == 1
    assert here.run("queue", "retry", first, "--all").status == 1
    assert here.run("queue", "retry", "nothing").status == 1
    assert here.audited()[:2] == [("queue.retry", {"id": first}), ("queue.retry", {"destination": "near.example"})]


def test_drop(here: Installation) -> None:
    queue_id = here.enqueue("bob@far.example")
    assert here.run("queue", "drop", queue_id).status == 2  # a reason is needed
    assert here.run("queue", "drop", queue_id, "--reason", " ").status == 1
    assert here.run("queue", "drop", queue_id, "--reason", "Spam from a lost password").out == f"{queue_id} is gone.\n"
    assert here.run("queue", "list", "--json").json == []
    assert list((here.data / "tenants" / "1" / "spool").iterdir()) == []
    assert here.audited() == [("queue.drop", {"id": queue_id, "reason": "Spam from a lost password"})]
    assert here.trace(queue_id) == [("withdrawn", "bob@far.example")]
    assert here.run("queue", "drop", queue_id, "--reason", "again").status == 1


def test_an_entry_that_cannot_be_read_can_be_dropped(here: Installation) -> None:
    """It would be looked at in vain for ever, since nothing of it opens that its sender could be told."""
    queue_id = here.enqueue("bob@far.example")
    with here.opened() as found:
        damage = prepare(update(schema.entry).values(reverse_path=b"damaged"))
        found.installation.queue._database.write(damage.run)
    assert here.run("queue", "show", queue_id).status != 0
    assert here.run("queue", "drop", queue_id, "--reason", "damaged", "--bounce").status != 0
    assert here.run("queue", "drop", queue_id, "--reason", "damaged").out == f"{queue_id} is gone.\n"
    assert here.run("queue", "list", "--json").json == []
    assert here.audited() == [("queue.drop", {"id": queue_id, "reason": "damaged"})]


def test_drop_with_a_bounce(here: Installation) -> None:
    queue_id = here.enqueue("bob@far.example")
    said = here.run("queue", "drop", queue_id, "--reason", "Not from here", "--bounce")
    assert said.out == f"{queue_id} will be returned to its sender.\n"
    shown = here.run("queue", "show", queue_id, "--json").json
    assert shown["recipients"][0]["reply"] == "550 5.7.1 Not from here"
    assert "about to be returned" in here.run("queue", "show", queue_id).err
    with here.opened() as found:
        queue = found.installation.queue
        assert queue.expired(found.installation.clock.now(), 10) == [queue_id]
    notice = here.enqueue("ada@acme.test", sender=None)
    refused = here.run("queue", "drop", notice, "--reason", "no", "--bounce")
    assert refused.status == 1 and "without --bounce" in refused.err
    assert [action for action, _ in here.audited()] == ["queue.bounce"]


def test_a_route_is_a_destination(here: Installation) -> None:
    with here.opened() as found:
        clock = found.installation.clock
        to = NewRecipient(EmailAddress.parse("bob@acme.test"), routed=Domain("acme.test"))
        parameters = EnvelopeParameters()
        sender = EmailAddress.parse("x@far.example")
        new = NewEntry(
            new_queue_id(clock), TenantId(1), None, Origin.MX, sender, parameters, (to,), clock.now() + 9, b"x\r\n"
        )
        found.installation.queue.enqueue([new])
        found.installation.queue.destination_failed("route:acme.test", clock.now() + 600, SILENT)
    rows = here.run("queue", "list", "--destination", "route:acme.test", "--json").json
    assert [row["id"] for row in rows] == [new.queue_id]
    assert "The own server for acme.test" in here.run("queue", "destinations").out
