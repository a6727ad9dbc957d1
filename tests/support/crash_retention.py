"""A data directory in which something of each kind is due, and something of each kind is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld, Onward, Query, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.register.folder_rules import FolderRules
from storage.values import UID_MAX, Domain, EmailAddress, TenantId

DAY = 86_400
ONE = TenantId(1)
ALICE = EmailAddress.parse("alice@one.test")
RULES = FolderRules.parse(["Trash=30"])


@contextmanager
def opened(data: Path, now: int) -> Iterator[Installation]:
    clock = FixedClock(now)
    keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock))
    installation = Installation(data, keys, clock, folder_rules=RULES)
    installation.clock_guard.confirm()
    try:
        yield installation
    finally:
        installation.close()


def make(data: Path) -> int:
    """When half of it is due."""
    clock = FixedClock()
    master = Master.generate()
    write_master_file(data / "master", master)
    keys = LocalKeys(KeyStore.create(data / "keys", master, clock))
    Installation.create(data, keys, clock)
    installation = Installation(data, keys, clock)
    provisioning = Provisioning(installation)
    provisioning.create_tenant("one", "One")
    installation.control.add_domain(ONE, Domain("one.test"))
    installation.control.verify_domain(Domain("one.test"), None)
    provisioning.create_account(ONE, ALICE)
    for turn in ("old", "new"):
        _fill(installation, turn)
        clock.advance(40 * DAY if turn == "old" else 1)
    installation.close()
    return clock.now()


def _fill(installation: Installation, turn: str) -> None:
    now = installation.clock.now()
    [account_id] = [row.account_id for row in installation.tenant(ONE).accounts()]
    installation.access_log.record(AccessEvent(now, "sign_in", "success", "imap", ONE, account_id, b"", "192.0.2.1"))
    installation.traces.record(TraceEvent(now, turn, TraceKind.RECEIVED, ONE))
    installation.flush_logs()
    installation.tenant(ONE).srs.token(EmailAddress.parse(f"{turn}@far.test"))
    recipient = WithheldFor(ALICE, Onward(Way.MAILBOX, account_id), "spam", "It is spam.")
    message = b"Subject: " + turn.encode() + b"\r\n\r\n"
    Quarantine(installation).keep(
        ONE,
        NewWithheld(
            new_queue_id(installation.clock),
            EmailAddress.parse("stranger@far.example"),
            EnvelopeParameters(authentic=False),
            (recipient,),
            now + 30 * DAY,
            b"",
            message,
        ),
    )
    with installation.account(ONE, account_id) as account:
        account.messages.append(account.mailboxes.find("Trash").id, message)


def left(installation: Installation) -> dict[str, int]:
    """How much of each kind there is."""
    data = installation.data
    [account_id] = [row.account_id for row in installation.tenant(ONE).accounts()]
    with installation.account(ONE, account_id) as account:
        trash = account.mailboxes.find("Trash")
        mail = len(account.messages.fetch_rows(trash.id, 1, UID_MAX, ("uid",)))
        counted = (trash.messages, account.usage().messages)
    assert counted == (mail, mail)
    srs = installation.tenant(ONE).srs
    return {
        "access": len(list((data / "logs" / "access").iterdir())),
        "traces": len(list((data / "logs" / "traces").iterdir())),
        "keys of traces": len(list((data / "keys" / "logs" / "traces").iterdir())),
        "withheld": len(list(installation.tenant(ONE).quarantine.find(Query()))),
        "srs": sum(srs.address(srs.token(EmailAddress.parse(f"{turn}@far.test"))) is not None for turn in ("new",)),
        "mail": mail,
    }
