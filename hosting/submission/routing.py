"""Sorts the recipients of a message by where they go: mailboxes here, once each, and addresses elsewhere. Pure.

An account that is reached by several addresses gets one copy; so does an address elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.smtp.address import ForwardPath
from gateway.smtp.replies import SmtpReply
from storage.directory.resolve import LocalMailbox, Outcome, Resolution
from storage.directory.rows import State
from storage.values import AccountId, EmailAddress, TenantId

NO_SUCH_MAILBOX = SmtpReply(550, "5.1.1", "No such mailbox here")
NOT_NOW = SmtpReply(450, "4.2.1", "The mailbox takes no mail for the moment")
NO_LONGER = SmtpReply(550, "5.2.1", "The mailbox takes no mail any more")


@dataclass(frozen=True, slots=True)
class MailboxTarget:
    """A mailbox here, and the first path of the envelope that led to it."""

    tenant_id: TenantId
    account_id: AccountId
    path: ForwardPath


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """An address elsewhere; `address` differs from the path's where an alias leads outside."""

    address: EmailAddress
    path: ForwardPath


@dataclass(frozen=True, slots=True)
class Targets:
    mailboxes: tuple[MailboxTarget, ...]
    remote: tuple[RemoteTarget, ...]


def refusal(resolution: Resolution) -> SmtpReply | None:
    """Why a recipient that resolved so is refused at RCPT; None if its mail is taken."""
    match resolution.outcome:
        case Outcome.UNKNOWN:
            return NO_SUCH_MAILBOX
        case Outcome.SUSPENDED:
            return NOT_NOW
        case Outcome.ENDED:
            return NO_LONGER
        case Outcome.LOCAL if not resolution.external and not any(map(_takes_mail, resolution.mailboxes)):
            suspended = any(mailbox.state is State.SUSPENDED for mailbox in resolution.mailboxes)
            return NOT_NOW if suspended else NO_LONGER
        case _:
            return None


def targets(recipients: Iterable[tuple[ForwardPath, Resolution]]) -> Targets:
    """Where the accepted recipients' mail goes, in the order of the envelope."""
    mailboxes: dict[tuple[TenantId, AccountId], MailboxTarget] = {}
    remote: dict[str, RemoteTarget] = {}
    for path, resolution in recipients:
        for mailbox in resolution.mailboxes:
            if _takes_mail(mailbox):
                target = MailboxTarget(mailbox.tenant_id, mailbox.account_id, path)
                mailboxes.setdefault((mailbox.tenant_id, mailbox.account_id), target)
        elsewhere = (path.address,) if resolution.outcome is Outcome.ELSEWHERE else resolution.external
        for address in elsewhere:
            remote.setdefault(address.key, RemoteTarget(address, path))
    return Targets(tuple(mailboxes.values()), tuple(remote.values()))


def _takes_mail(mailbox: LocalMailbox) -> bool:
    return mailbox.state is State.ACTIVE
