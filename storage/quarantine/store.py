"""The quarantine of an installation: messages that the filter withheld, kept until somebody decides or their time ends.

When `keep` returns, the message is durable: its two files are fsynced and linked, its rows are committed. When it
raises, nothing of it is visible and its files are gone or left to the sweep. What is sent again while it is held
(content, sender, recipients) is kept once. A tenant's quarantine has a limit: beyond it a message is not taken, with a
temporary error, so that its sender keeps it and tries again; to drop the oldest would lose mail that was accepted. What
others get too has as much room again: since a message has one reply, they would wait for it as well.

Raises: QuarantineFull, NotFound, Gone (the tenant has ended), Corrupt, StorageFull, Unavailable.
Standards: RFC 5321 §6.1 (responsibility).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from storage.errors import Corrupt, NotFound, QuarantineFull
from storage.installation import Installation
from storage.keys.sealing import keyed_hash
from storage.logs.trace import TraceEvent, TraceKind
from storage.mime.fields import fields_between
from storage.quarantine.header_object import HeaderObject, split, text_of, visible
from storage.quarantine.rows import QuarantineRows
from storage.quarantine.values import HeldRecipient, Limits, NewWithheld, Withheld
from storage.values import AccountId, TenantId

T = TypeVar("T")

LIMITS = Limits()
_DAY = 86_400

_log = logging.getLogger("cleanmail.storage")


class Quarantine:
    """Of all tenants. Any thread may use it; it holds nothing open."""

    def __init__(self, installation: Installation, limits: Limits = LIMITS) -> None:
        self._installation = installation
        self._limits = limits
        self._told: dict[TenantId, int] = {}  # day of the last line about its quarantine that is full

    def of(self, tenant_id: TenantId) -> QuarantineRows:
        """One tenant's, for listing and deciding; not to be kept."""
        return self._installation.tenant(tenant_id).quarantine

    # Taking responsibility

    def keep(self, tenant_id: TenantId, new: NewWithheld, *, shared: bool = False) -> str:
        """The id under which the message is held: another than its own if it was held before.

        `shared`: others than this quarantine get the message, and would have to do without it.
        """
        rows = self.of(tenant_id)
        fingerprint = keyed_hash(rows.fingerprint_key, _identity(new))
        known = rows.claim(fingerprint, new.expires)
        if known is not None:
            return known
        limits = self._limits.with_reserve if shared else self._limits
        if not rows.has_room(len(new.prefix) + len(new.data), limits):
            self._tell_full(tenant_id)
            raise QuarantineFull(detail=f"tenant {tenant_id}: its quarantine is full", tenant_id=tenant_id)
        end = split(new.data)
        header = self._header(new, new.data[:end])
        fields = fields_between(new.data, 0, end)
        name = f"{new.quarantine_id}.{self._installation.incarnation.name}"
        rows.files.write(name, rows.header_key, header, rows.body_key, new.data[end:])
        try:
            row = {"file": name, "author": text_of(fields, b"from"), "subject": text_of(fields, b"subject")}
            kept = rows.insert(new, row, fingerprint)
        except BaseException:
            rows.files.remove(name)
            raise
        if kept != new.quarantine_id:
            rows.files.remove(name)
        return kept

    def _tell_full(self, tenant_id: TenantId) -> None:
        """Once a day: senders that are put off come again every few minutes."""
        today = self._installation.clock.now() // _DAY
        if self._told.get(tenant_id) != today:
            self._told[tenant_id] = today
            _log.warning("the quarantine of tenant %d is full: mail that would be held waits at its senders", tenant_id)

    def forget(self, tenant_id: TenantId, quarantine_id: str) -> bool:
        """Takes back one `keep`, by the id that it returned: the message was not accepted after all.

        True if it is gone; it stays if it was accepted in another transaction, or decided on meanwhile.
        """
        return self.of(tenant_id).forget(quarantine_id)

    def _header(self, new: NewWithheld, header: bytes) -> HeaderObject:
        first = new.recipients[0]
        return HeaderObject(
            new.quarantine_id,
            self._installation.clock.now(),
            len(new.prefix) + len(new.data),
            str(new.reverse_path or ""),
            tuple(dict.fromkeys(str(recipient.address.domain) for recipient in new.recipients)),
            first.reason,
            first.sentence,
            first.counterfactual,
            new.score,
            {name: visible(value, 1000) for name, value in new.facts.items()},
            new.prefix,
            header,
        )

    # Looking

    def fill(self, tenant_id: TenantId) -> float:
        """How much of its limits a tenant's quarantine has used up; 1 is full."""
        return self.of(tenant_id).fill(self._limits)

    def show(self, tenant_id: TenantId, quarantine_id: str, account_id: AccountId | None = None) -> Withheld:
        """One message; with `account_id` only if it is for that account. Raises NotFound."""
        return self.of(tenant_id).show(quarantine_id, account_id)

    def header(self, tenant_id: TenantId, message: Withheld) -> HeaderObject:
        """What may be seen of it. Raises NotFound (it was settled meanwhile), Corrupt (damaged or lost)."""
        rows = self.of(tenant_id)
        return self._present(rows, message, lambda: rows.files.read_header(message.file, rows.header_key))

    def content(self, tenant_id: TenantId, message: Withheld) -> tuple[bytes, bytes]:
        """The fields that were put in front of it, and the message itself, to be released. Raises as `header`."""
        rows = self.of(tenant_id)
        header = self.header(tenant_id, message)
        body = self._present(rows, message, lambda: rows.files.read_body(message.file, rows.body_key))
        if header.quarantine_id != message.quarantine_id or len(header.prefix + header.header + body) != message.size:
            raise Corrupt(detail=f"quarantine {message.quarantine_id}: its files are not what its row says")
        return header.prefix, header.header + body

    def _present(self, rows: QuarantineRows, message: Withheld, read: Callable[[], T]) -> T:
        """What `read` gives. A file without which a row stands is lost, and an alarm."""
        try:
            return read()
        except NotFound:
            with suppress(NotFound):
                rows.show(message.quarantine_id)
                _log.error("quarantined message %s: its content is lost", message.quarantine_id)
                raise Corrupt(detail=f"quarantine {message.quarantine_id}: its content is lost") from None
            raise

    # In the background

    def expire(self, tenant_id: TenantId) -> int:
        """Removes what has been held long enough; how many messages. Repeated it goes on."""
        count = 0
        while True:
            gone, messages = self.of(tenant_id).expire()
            if not gone:
                return count
            count += gone
            for message in messages:
                for recipient in message.recipients:
                    if not recipient.state.settled:
                        self._installation.traces.record(self._expired(tenant_id, message, recipient))

    def _expired(self, tenant_id: TenantId, message: Withheld, recipient: HeldRecipient) -> TraceEvent:
        return TraceEvent(
            self._installation.clock.now(),
            message.quarantine_id,
            TraceKind.WITHDRAWN,
            tenant_id,
            recipient.account_id,
            str(message.sender or ""),
            str(recipient.address),
            {"reason": "nobody released it in time"},
        )

    def sweep(self, tenant_id: TenantId) -> int:
        """Removes what a crash left of the tenant's files; of how many messages."""
        return self.of(tenant_id).sweep(self._installation.incarnation.is_alive)


def _identity(new: NewWithheld) -> bytes:
    """What makes two transactions the same message for the same people."""
    recipients = sorted(
        f"{each.address.key} {each.onward.way} {each.onward.account_id or each.onward.to}" for each in new.recipients
    )
    envelope = "\n".join([str(new.reverse_path or ""), *recipients]).encode("utf-8", "surrogatepass")
    return len(envelope).to_bytes(4, "big") + envelope + new.data
