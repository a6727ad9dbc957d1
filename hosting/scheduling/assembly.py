"""Puts scheduling together, for the roles that need it."""

from __future__ import annotations

from dataclasses import dataclass

from hosting.config import Config
from hosting.metrics import Metrics
from hosting.scheduling.carrying import Carrying
from hosting.scheduling.implicit import ImplicitScheduler
from hosting.scheduling.mailing import Mailing, MailSettings
from hosting.scheduling.people import People
from hosting.smtp_service import own_domain
from hosting.submission.sending import SendingGate
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.sending import Sending


@dataclass(frozen=True, slots=True)
class SchedulingParts:
    people: People
    carrying: Carrying
    scheduler: ImplicitScheduler


def make_scheduling(installation: Installation, config: Config, metrics: Metrics | None = None) -> SchedulingParts:
    """As the server is configured."""
    resolver = Resolver(installation, config.postmaster, own_domain(config.server.name))
    gate = SendingGate(installation, resolver, Sending(installation, config.sending), config.server.name)
    settings = MailSettings(config.server.name, config.relay.retry_time)
    return scheduling_of(installation, resolver, gate, settings, metrics)


def scheduling_of(
    installation: Installation,
    resolver: Resolver,
    gate: SendingGate,
    settings: MailSettings,
    metrics: Metrics | None = None,
) -> SchedulingParts:
    people = People(resolver)
    carrying = Carrying(installation, people, Mailing(installation, resolver, gate, settings), metrics)
    return SchedulingParts(people, carrying, ImplicitScheduler(people, carrying, installation.clock))
