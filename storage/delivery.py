"""Delivers one message to mailboxes of one tenant.

For each target that has no error in its outcome the message is durable when `deliver` returns. A delivery may be
repeated with the same delivery id: an account that has the message already is delivered, and keeps one copy, as does
an account that is named twice. The message is read once for all of them. What is missing though the directory has it
is Corrupt, and so temporary: a file system that was not mounted costs nobody a message.

Standards: RFC 5321 §4.1.1.4 (responsibility per recipient), §6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.directory.rows import State
from storage.errors import AlreadyExists, CleanmailError, Corrupt, NotFound
from storage.installation import Installation
from storage.mail.content import Content, content_of
from storage.mail.messages import NewMessage
from storage.mail.names import INBOX
from storage.mail.quota import Limits
from storage.values import AccountId, TenantId


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a copy goes. A mailbox that is not there gives its mail to INBOX."""

    account_id: AccountId
    mailbox: str = INBOX
    flags: int = 0
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a target: delivered, or the error that kept it from that (OverQuota, Unavailable, Gone …)."""

    delivery: Delivery
    error: CleanmailError | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None


def deliver(
    installation: Installation,
    tenant_id: TenantId,
    targets: Sequence[Delivery],
    data: bytes,
    prefix: bytes,
    delivery_id: str,
    *,
    overrun: bool = False,
) -> list[Outcome]:
    """One outcome for each target, in their order. `data` has CRLF line ends; `prefix` are fields to put before it.

    `overrun`: the message is kept though it exceeds a quota of which something is left: its recipient was accepted
    before its size was known.
    """
    kept = content_of(data, prefix)
    outcomes: dict[AccountId, CleanmailError | None] = {}
    for target in targets:
        if target.account_id not in outcomes:
            try:
                _deliver(installation, tenant_id, target, data, kept, delivery_id, overrun=overrun)
                outcomes[target.account_id] = None
            except NotFound as error:
                outcomes[target.account_id] = _missing(installation, tenant_id, target.account_id) or error
            except CleanmailError as error:
                outcomes[target.account_id] = error
    return [Outcome(target, outcomes[target.account_id]) for target in targets]


def _deliver(
    installation: Installation,
    tenant_id: TenantId,
    target: Delivery,
    data: bytes,
    kept: Content,
    delivery_id: str,
    *,
    overrun: bool,
) -> None:
    row = installation.tenant(tenant_id).account(target.account_id)
    limits = Limits(row.quota_bytes, row.quota_messages)
    with installation.account(tenant_id, target.account_id, limits=limits) as account:
        try:
            mailbox = account.mailboxes.find(target.mailbox)
        except NotFound:
            mailbox = account.mailboxes.find(INBOX)
        message = NewMessage(
            data,
            flags=target.flags,
            keywords=target.keywords,
            prefix=kept.prefix,
            delivery_id=delivery_id,
            content=kept,
            overrun=overrun,
        )
        try:
            account.messages.append_many(mailbox.id, [message])
        except AlreadyExists:
            return


def _missing(installation: Installation, tenant_id: TenantId, account_id: AccountId) -> CleanmailError | None:
    """The error, for now, of an account that the directory has though its folder or key is not there."""
    try:
        tenant = installation.tenant(tenant_id)
    except NotFound:
        return Corrupt(detail=f"tenant {tenant_id}: its folder or its key is missing")
    except CleanmailError as error:
        return error
    try:
        if tenant.account(account_id).state is State.ENDED:
            return None
    except NotFound:
        return None
    return Corrupt(detail=f"account {account_id}: its folder or its key is missing")
