"""Sorts the recipients of a message by where they go: mailboxes here, servers of tenants, addresses elsewhere. Pure.

Each of them gets one copy, however many recipients of the envelope lead there. `stamp` are fields that only this
target's copy carries, behind those that all of them do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.smtp.address import ForwardPath
from gateway.smtp.replies import SmtpReply, reply_for
from storage.directory.resolve import LocalMailbox, Outcome, Resolution, Route
from storage.directory.rows import State
from storage.directory.terms import Intake
from storage.errors import OverQuota
from storage.values import AccountId, Domain, EmailAddress, TenantId

NO_SUCH_MAILBOX = SmtpReply(550, "5.1.1", "No such mailbox here")
NOT_NOW = SmtpReply(450, "4.2.1", "The mailbox takes no mail for the moment")
NO_LONGER = SmtpReply(550, "5.2.1", "The mailbox takes no mail any more")
FULL = reply_for(OverQuota())


DESTINATIONS_MAX = 5000  # of a transaction; one recipient may lead to a thousand of them


class Suspended(StrEnum):
    """What becomes of mail for an account that is suspended, or whose tenant is."""

    TAKE = "take"  # it waits in the mailbox until the suspension ends
    DEFER = "defer"  # 450 4.2.1: the sender's server keeps it


@dataclass(frozen=True, slots=True)
class MailboxTarget:
    """A mailbox here, and the first path of the envelope that led to it."""

    tenant_id: TenantId
    account_id: AccountId
    path: ForwardPath
    mailbox: str = ""  # where in the account: `gateway.acceptance.placement`
    stamp: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class RoutedTarget:
    """An address whose mail goes to the server that the tenant's route of `domain` names."""

    tenant_id: TenantId
    domain: Domain
    address: EmailAddress
    path: ForwardPath
    stamp: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """An address elsewhere; `address` differs from the path's where an alias of the tenant leads outside."""

    address: EmailAddress
    path: ForwardPath
    tenant_id: TenantId | None = None  # whose alias it is; None: the sender named the address himself
    returned: bool = False  # the alias is a rewritten reverse-path of ours (SRS)
    reverse_path: EmailAddress | None = None  # in place of the message's (SRS)
    stamp: bytes = field(default=b"", repr=False)

    @property
    def forwarded(self) -> bool:
        return self.tenant_id is not None


@dataclass(frozen=True, slots=True)
class Targets:
    mailboxes: tuple[MailboxTarget, ...]
    remote: tuple[RemoteTarget, ...] = ()
    routed: tuple[RoutedTarget, ...] = ()


def refusal(resolution: Resolution, suspended: Suspended = Suspended.DEFER) -> SmtpReply | None:
    """Why a recipient that resolved so is refused at RCPT; None if its mail is taken."""
    match resolution.outcome:
        case Outcome.UNKNOWN:
            return NO_SUCH_MAILBOX
        case Outcome.ENDED:
            return NO_LONGER
        case Outcome.SUSPENDED if suspended is Suspended.DEFER:
            return NOT_NOW
        case Outcome.ELSEWHERE:
            return None
    if resolution.external or resolution.routed or any(_takes_mail(each, suspended) for each in resolution.mailboxes):
        return None
    if any(mailbox.state is State.SUSPENDED for mailbox in resolution.mailboxes):
        return NOT_NOW
    for intake, reply in ((Intake.FULL, FULL), (Intake.DEFERRED, NOT_NOW)):
        if any(mailbox.intake is intake and mailbox.state is State.ACTIVE for mailbox in resolution.mailboxes):
            return reply
    return NO_LONGER if resolution.mailboxes else NO_SUCH_MAILBOX


def too_many(accepted: Sequence[Resolution], another: Resolution) -> bool:
    """Whether a transaction with `accepted` leads to enough destinations already to leave `another` to the next one."""
    count = sum(len(each.mailboxes) + len(each.external) + len(each.routed) for each in (*accepted, another))
    return bool(accepted) and count > DESTINATIONS_MAX


def targets(recipients: Iterable[tuple[ForwardPath, Resolution]], suspended: Suspended = Suspended.DEFER) -> Targets:
    """Where the accepted recipients' mail goes, in the order of the envelope."""
    mailboxes: dict[tuple[TenantId, AccountId], MailboxTarget] = {}
    remote: dict[str, RemoteTarget] = {}
    routed: dict[tuple[str, str], RoutedTarget] = {}
    for path, resolution in recipients:
        for mailbox in resolution.mailboxes:
            if _takes_mail(mailbox, suspended):
                target = MailboxTarget(mailbox.tenant_id, mailbox.account_id, path)
                mailboxes.setdefault((mailbox.tenant_id, mailbox.account_id), target)
        for each in resolution.routed:
            there = RoutedTarget(each.tenant_id, each.domain, each.address, path)
            routed.setdefault((each.domain.name, each.address.key), there)
        if resolution.outcome is Outcome.ELSEWHERE:
            remote.setdefault(path.address.key, RemoteTarget(path.address, path))
        for address in resolution.external:
            returned = resolution.route is Route.RETURN
            remote.setdefault(address.key, RemoteTarget(address, path, resolution.tenant_id, returned))
    return Targets(tuple(mailboxes.values()), tuple(remote.values()), tuple(routed.values()))


def _takes_mail(mailbox: LocalMailbox, suspended: Suspended) -> bool:
    if mailbox.intake is not Intake.OPEN:
        return False
    return mailbox.state is State.ACTIVE or (mailbox.state is State.SUSPENDED and suspended is Suspended.TAKE)
