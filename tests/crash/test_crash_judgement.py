"""Whoever judges and stores a message is killed at each step between: what was acknowledged is kept for everybody, and
what was not is sent again and kept for everybody then, in the quarantine once.

The writer is the one of test_crash_steps. For bob the sender is on a deny list, and what is denied is quarantined;
alice, of the same tenant, and mallory get the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crash_town
import pytest
from crash_town import WHOSE, mail, receive
from pending import deliver_pending
from test_crash_steps import Writer

from storage.filter.rules import WHOLE_TENANT, ListKind, of_account
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query
from storage.values import UID_MAX, TenantId

RECIPIENTS = ["bob@one.test", "alice@one.test", "mallory@two.test"]
STEPS_MAX = 300  # a bound for the test, not for the server
ONE = TenantId(1)


@dataclass
class Town:
    data: Path
    writer: Writer


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("crash")
    crash_town.make(data)
    with crash_town.opened(data) as installation:
        rules = installation.tenant(ONE).filter_rules
        rules.set_rule(WHOLE_TENANT, "denied", "quarantine")
        rules.add(of_account(WHOSE["bob@one.test"][1]), "@stranger.test", ListKind.DENY)
    writer = Writer(data)
    try:
        yield Town(data, writer)
    finally:
        writer.close()


def copies(installation: Installation, address: str, token: str) -> int:
    with installation.account(*WHOSE[address]) as account:
        inbox = account.mailboxes.find("INBOX")
        ids = account.messages.fetch_rows(inbox.id, 1, UID_MAX, ("message_id",))
        return sum(f"Subject: {token}\r\n".encode() in account.messages.read_message(id_) for (id_,) in ids)


def withheld(installation: Installation, token: str) -> int:
    """How often the message is in the quarantine, whole."""
    quarantine = Quarantine(installation)
    found = quarantine.of(ONE).find(Query(subject=token))
    assert all(quarantine.content(ONE, each)[1] == mail(token) for each in found)
    assert all([str(recipient.address) for recipient in each.recipients] == ["bob@one.test"] for each in found)
    return len(found)


def seen(installation: Installation, token: str) -> tuple[int, int, int]:
    """Copies of bob (withheld), alice and mallory, after the queue has done what it does at a start."""
    deliver_pending(installation)
    quarantine = Quarantine(installation)
    for tenant_id in (ONE, TenantId(2)):
        installation.queue.sweep(tenant_id, installation.incarnation.is_alive)
        quarantine.sweep(tenant_id)
    assert copies(installation, "bob@one.test", token) == 0
    return (
        withheld(installation, token),
        copies(installation, "alice@one.test", token),
        copies(installation, "mallory@two.test", token),
    )


def play(town: Town, token: str, stop: int, at: str) -> dict[str, Any]:
    town.writer.begin("accept", stop, at=at, token=token, recipients=RECIPIENTS)
    said = town.writer.until_end()
    with crash_town.opened(town.data, later=True) as installation:
        found = seen(installation, token)
        if "acknowledged" in said:
            assert found == (1, 1, 1), stop
            return said
        if "refused" in said:
            assert found == (0, 0, 0), stop
        # The sender sends it again; one who did not hear our answer may be sent what he has (RFC 5321 §4.5.3.2.6).
        assert receive(installation, RECIPIENTS, mail(token))
        held, alice, mallory = seen(installation, token)
        assert held == 1 and 1 <= alice <= 2 and 1 <= mallory <= 2, stop
        assert (alice, mallory) == (found[1] + 1, found[2] + 1), stop
    return said


@pytest.mark.parametrize("at", ["kill", "full"])
def test_at_each_step(town: Town, at: str) -> None:
    for stop in range(1, STEPS_MAX):
        said = play(town, f"judged-{at}-{stop}", stop, at)
        if said["ended"] == 0 and said.get("steps", stop) < stop:
            break
    assert 15 < stop < STEPS_MAX - 1
    with crash_town.opened(town.data) as installation:
        held = len(Quarantine(installation).of(ONE).find(Query(), limit=2 * STEPS_MAX))
    files = [path for path in town.data.glob("tenants/*/quarantine/*") if path.is_file()]
    assert len(files) == 2 * held
