"""Withholds and releases in the crash town, as the MX and a person do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crash_queue import DAY, TAKES
from crash_town import WHOSE, mail

from gateway.mx.recipients import Recipients
from gateway.policy.rules import Rules
from gateway.quarantine.release import Releases
from hosting.quarantine.digests import Digests
from storage.clock import SystemClock
from storage.directory.resolve import POSTMASTER_SETTING, Resolver
from storage.filter.rules import of_account
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import read_master_file
from storage.keys.source import LocalKeys
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldState, NewWithheld, Onward, Query, ReleasedBy, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import EmailAddress, TenantId

ONE = TenantId(1)
MAILBOXES = ("alice@one.test", "bob@one.test")
PREFIX = b"X-Cleanmail-Verdict: quarantine; reason=spam\r\n"


class ClockAhead(SystemClock):
    def __init__(self, hours: int) -> None:
        self._ahead = hours * 3600

    def now(self) -> int:
        return super().now() + self._ahead

    def precise(self) -> float:
        return super().precise() + self._ahead


@contextmanager
def opened(data: Path, hours: int = 0) -> Iterator[tuple[Installation, Quarantine]]:
    """As a process opens it that starts so many hours from now."""
    clock = ClockAhead(hours)
    keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock))
    installation = Installation(data, keys, clock)
    try:
        yield installation, Quarantine(installation)
    finally:
        installation.close()


def keep(installation: Installation, quarantine: Quarantine, token: str) -> str:
    """A message for two mailboxes and for where an alias leads."""
    recipients = [
        WithheldFor(EmailAddress.parse(address), Onward(Way.MAILBOX, WHOSE[address][1]), "spam", "It is spam.")
        for address in MAILBOXES
    ]
    away = EmailAddress.parse("away@one.test")
    recipients.append(
        WithheldFor(away, Onward(Way.FORWARDED, to=EmailAddress.parse(TAKES), rewritten=True), "spam", "It is spam.")
    )
    now = installation.clock.now()
    new = NewWithheld(
        new_queue_id(installation.clock),
        EmailAddress.parse("stranger@far.example"),
        EnvelopeParameters(authentic=False),
        tuple(recipients),
        now + 30 * DAY,
        PREFIX,
        mail(token),
    )
    return quarantine.keep(ONE, new)


def releases(installation: Installation, quarantine: Quarantine) -> Releases:
    return Releases(installation, quarantine, Recipients(installation, Resolver(installation)))


def release(installation: Installation, quarantine: Quarantine, quarantine_id: str) -> list[int]:
    """Whoever may still be released; whose it was."""
    found = quarantine.show(ONE, quarantine_id)
    held = [each.position for each in found.recipients if each.state is HeldState.HELD]
    result = releases(installation, quarantine).release(ONE, quarantine_id, held, ReleasedBy.ADMINISTRATOR)
    return list(result.released)


def held(quarantine: Quarantine) -> list[str]:
    return [message.quarantine_id for message in quarantine.of(ONE).find(Query())]


def ask_for_digests(installation: Installation) -> None:
    """alice gets one of her own; of what is held for others TAKES is told, whom postmaster leads to."""
    tenant = installation.tenant(ONE)
    tenant.filter_rules.set_rule(of_account(WHOSE["alice@one.test"][1]), "digest", "recipients")
    tenant.set_setting(POSTMASTER_SETTING, TAKES)


def digest(installation: Installation, quarantine: Quarantine) -> int:
    """The day's, as the jobs role sends them."""
    rules = Rules(digest="administrators")
    return Digests(installation, quarantine, Resolver(installation), rules, 0, "mail.test").send_due(ONE)
