"""The places that a message would go to, as policy sees them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from gateway.acceptance.placement import JUNK
from gateway.acceptance.targets import MailboxTarget, RemoteTarget, RoutedTarget, Targets
from gateway.facts.values import Destination, Place
from gateway.policy.verdict import Action
from storage.directory.resolve import is_role

Target: TypeAlias = MailboxTarget | RoutedTarget | RemoteTarget


def every_target(to: Targets) -> tuple[Target, ...]:
    """In the order in which entries are made of them."""
    return (*to.mailboxes, *to.routed, *to.remote)


def destination_of(target: Target) -> Destination:
    address = target.path.address
    assert target.tenant_id is not None, "mail from elsewhere to elsewhere is never accepted"
    account_id, place = None, Place.FORWARDED
    if isinstance(target, MailboxTarget):
        account_id, place = target.account_id, Place.MAILBOX
    elif isinstance(target, RoutedTarget):
        place = Place.ROUTED
    return Destination(target.tenant_id, place, address, address.domain, account_id, is_role(address))


def placed(target: Target, action: Action, stamp: bytes) -> Target:
    """The target with the fields of its verdict; a mailbox also with the place that the verdict names."""
    if isinstance(target, MailboxTarget):
        return replace(target, mailbox=JUNK if action is Action.JUNK else "", stamp=stamp)
    return replace(target, stamp=stamp)


def only(targets: tuple[Target, ...]) -> Targets:
    """These, sorted as they were."""
    return Targets(
        tuple(each for each in targets if isinstance(each, MailboxTarget)),
        tuple(each for each in targets if isinstance(each, RemoteTarget)),
        tuple(each for each in targets if isinstance(each, RoutedTarget)),
    )
