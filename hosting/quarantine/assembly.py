"""Puts the quarantine of an installation together, for roles and for the command line."""

from __future__ import annotations

from collections.abc import Collection

from gateway.classifier.model import FILE, Models
from gateway.learning.experience import subjects_of
from gateway.learning.learn import learn
from gateway.mx.recipients import Recipients
from gateway.quarantine.release import Releases
from hosting.config import Config
from hosting.quarantine.service import QuarantineService
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Limits
from storage.values import AccountId, TenantId


def make_quarantine(installation: Installation, config: Config) -> Quarantine:
    return Quarantine(installation, Limits(config.filter.quarantine_messages, config.filter.quarantine_size))


def make_releases(
    installation: Installation, config: Config, resolver: Resolver, quarantine: Quarantine | None = None
) -> Releases:
    """What is released teaches the filter, for whose mailbox it is."""
    models = Models(installation.data / FILE, installation.clock)

    def teach(tenant_id: TenantId, account_id: AccountId | None, prefix: bytes, message: bytes) -> None:
        if account_id is not None:
            sender, rules = subjects_of(prefix), config.filter.rules
            learn(installation, models, tenant_id, account_id, message, False, subjects=sender, rules=rules)

    return Releases(
        installation,
        quarantine or make_quarantine(installation, config),
        Recipients(installation, resolver),
        teach=teach,
        retry_time=config.relay.retry_time,
    )


def make_service(
    installation: Installation, config: Config, resolver: Resolver, *, server_users: Collection[str]
) -> QuarantineService:
    quarantine = make_quarantine(installation, config)
    releases = make_releases(installation, config, resolver, quarantine)
    return QuarantineService(installation, quarantine, releases, server_users=server_users)
