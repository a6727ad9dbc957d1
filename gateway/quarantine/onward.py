"""Where a withheld copy would have gone, as the quarantine keeps it, and as a release takes it up again. Pure.

A release asks the directory nothing anew: an alias that leads elsewhere today does not turn yesterday's mail. Only what
is worth nothing after some weeks, a rewritten reverse-path, is made when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from gateway.acceptance.targets import MailboxTarget, RemoteTarget, RoutedTarget, Targets
from gateway.policy.verdict import Verdict
from gateway.smtp.address import ForwardPath, Notify
from storage.quarantine.values import HeldRecipient, Onward, Way, WithheldFor
from storage.values import EmailAddress, TenantId

Target = MailboxTarget | RoutedTarget | RemoteTarget


def withheld_for(target: Target, verdict: Verdict) -> WithheldFor:
    """For whom a message is withheld that would have gone to `target`."""
    return WithheldFor(
        target.path.address, _onward(target), verdict.reason.value, verdict.sentence, verdict.counterfactual
    )


def _onward(target: Target) -> Onward:
    notify, orcpt = target.path.notify, target.path.orcpt
    if isinstance(target, MailboxTarget):
        return Onward(Way.MAILBOX, target.account_id, notify=notify, orcpt=orcpt)
    if isinstance(target, RoutedTarget):
        return Onward(Way.ROUTED, to=target.address, domain=target.domain, notify=notify, orcpt=orcpt)
    return Onward(
        Way.FORWARDED,
        to=target.address,
        notify=notify,
        orcpt=orcpt,
        returned=target.returned,
        rewritten=target.reverse_path is not None,
    )


def targets_of(
    recipients: Iterable[HeldRecipient],
    tenant_id: TenantId,
    rewrite: Callable[[HeldRecipient], EmailAddress | None],
) -> Targets:
    """Where copies go that are released; `rewrite` gives the reverse-path of those that leave under another one."""
    mailboxes: list[MailboxTarget] = []
    routed: list[RoutedTarget] = []
    remote: list[RemoteTarget] = []
    for each in recipients:
        onward = each.onward
        path = ForwardPath(each.address, cast(tuple[Notify, ...], onward.notify), onward.orcpt)
        if onward.account_id is not None:
            mailboxes.append(MailboxTarget(tenant_id, onward.account_id, path))
            continue
        assert onward.to is not None, "what leaves has an address there"
        if onward.domain is not None:
            routed.append(RoutedTarget(tenant_id, onward.domain, onward.to, path))
        else:
            reverse_path = rewrite(each) if onward.rewritten else None
            remote.append(RemoteTarget(onward.to, path, tenant_id, onward.returned, reverse_path))
    return Targets(tuple(mailboxes), tuple(remote), tuple(routed))
