"""Withholds and releases in the crash town, as the MX and a person do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import crash_queue
from crash_queue import DAY, TAKES
from crash_town import WHOSE, mail

from gateway.mx.recipients import Recipients
from gateway.quarantine.release import Releases
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldState, NewWithheld, Onward, Query, ReleasedBy, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import EmailAddress, TenantId

ONE = TenantId(1)
MAILBOXES = ("alice@one.test", "bob@one.test")
PREFIX = b"X-Cleanmail-Verdict: quarantine; reason=spam\r\n"


@contextmanager
def opened(data: Path, hours: int = 0) -> Iterator[tuple[Installation, Quarantine]]:
    """As a process opens it that starts so many hours from now."""
    with crash_queue.opened(data, hours) as installation:
        yield installation, Quarantine(installation)


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
