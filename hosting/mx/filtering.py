"""What the MX judges mail with, made of the settings: facts, policy, experience, quarantine, records.

Raises: InvalidInput for settings that mean nothing (DNS lists, addresses of scanners, the password file).
"""

from __future__ import annotations

from gateway.classifier.model import FILE, Models
from gateway.dns.answers import Dns
from gateway.dns_lists import parse_lists
from gateway.facts.client import ClientChecks
from gateway.facts.collect import Collector, Scanners
from gateway.greylist import Greylist
from gateway.judgement.judge import Judge
from gateway.judgement.records import VerdictRecords
from gateway.learning.corrections import Corrections
from gateway.policy.settings import FilterSettings
from gateway.policy.verdict import Action
from gateway.scanners import Clamd, Rspamd, ScannerSettings, read_password
from gateway.work import Work
from storage.clock import Clock
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Limits

_SHARE = 0.9  # of the time for all facts that a scanner has at most


class Filtering:
    """Of one process; `close` it at its end."""

    def __init__(
        self,
        installation: Installation,
        dns: Dns,
        work: Work,
        hostname: str,
        settings: FilterSettings,
        names_limit: float,
    ) -> None:
        """`names_limit`: seconds for the name of a client."""
        clock = installation.clock
        lists = parse_lists(settings.dns_lists)
        self.clients = ClientChecks(
            dns, lists, settings.trusted, limit=names_limit, lists_limit=settings.dns_list_timeout
        )
        self._scanners = scanners(settings.scanners, clock, settings.time_limit)
        self.collector = Collector(
            dns,
            Models(installation.data / FILE, clock),
            self._scanners,
            work,
            clock,
            hostname,
            settings.time_limit,
        )
        self.judge = Judge(installation, Corrections(), settings.rules)
        self.records = VerdictRecords(installation, installation.traces)
        self.quarantine = Quarantine(
            installation, Limits(messages=settings.quarantine_messages, octets=settings.quarantine_size)
        )
        self.greylist = (
            Greylist.open(settings.greylist, installation.data / "run") if settings.greylist.enabled else None
        )
        refuses = settings.rules.dns_lists == Action.REJECT or any(each.rejects for each in lists)
        self.listings_wait = settings.dns_list_timeout if refuses else 0.0

    @property
    def scans(self) -> dict[str, int]:
        """Of each scanner that is asked: how many scans gave a result, failed, or were left out."""
        asked = {"clamd": self._scanners.clamd, "rspamd": self._scanners.rspamd}
        return {
            f"{name}_{what}": count
            for name, scanner in asked.items()
            if scanner is not None
            for what, count in scanner.guard.counts.items()
        }

    def close(self) -> None:
        if self.greylist is not None:
            self.greylist.close()


def scanners(settings: ScannerSettings, clock: Clock, time_limit: float) -> Scanners:
    """Those that the settings name.

    Each has less time than all facts together: one that hangs has failed then, and is soon passed over, while a scan
    that is broken off with its message says nothing about the scanner.
    """
    longest = time_limit * _SHARE
    clamd = rspamd = None
    if settings.clamd:
        clamd = Clamd(settings.clamd, min(settings.clamd_timeout, longest), settings.scan_size, clock)
    if settings.rspamd:
        password = read_password(settings.rspamd_password_file)
        rspamd = Rspamd(settings.rspamd, min(settings.rspamd_timeout, longest), settings.scan_size, password, clock)
    return Scanners(clamd, rspamd)
