"""Greylisting for all workers of an installation: what is remembered lies in DATA/run/greylist.

`pass_` takes some microseconds and never waits. Raises nothing: where the file cannot be had, each process remembers
by itself, and the log says so once.
"""

from __future__ import annotations

import logging
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

from gateway.greylist.decision import decide, is_trusted
from gateway.greylist.settings import GreylistSettings
from storage.greylist import GreylistFile, Place

_log = logging.getLogger(__name__)


class Greylist:
    """One for a process; any thread may use it."""

    def __init__(self, settings: GreylistSettings, file: GreylistFile) -> None:
        self._settings = settings
        self._file = file

    @classmethod
    def open(cls, settings: GreylistSettings, run: Path) -> Greylist:
        """Shared with every process that opens it in the same DATA/run."""
        try:
            file = GreylistFile.open(run)
        except OSError as error:
            _log.warning("Each process greylists alone: the file cannot be shared (%s).", type(error).__name__)
            file = GreylistFile.of_this_process()
        return cls(settings, file)

    def pass_(self, network: str, sender: str, recipient: str, now: int) -> int:
        """Seconds until another try of this is taken; 0: it passes.

        `network`: what stands for the client, `client_network` of its address, or the domain that vouches for it where
        SPF passes (RFC 6647 §4: large senders try again from elsewhere). `sender`: "" for the null reverse-path.
        """
        settings = self._settings
        if not settings.enabled:
            return 0
        file = self._file
        place = file.hash("network", network)
        known = file.networks.get(place)
        if is_trusted(known, now, settings):
            assert known is not None
            file.networks.put(place, Place(known.first, now))
            return 0
        attempt = file.hash("attempt", network, sender.casefold(), recipient.casefold())
        decision = decide(file.attempts.get(attempt), now, settings)
        file.attempts.put(attempt, decision.place)
        if decision.passed_now:
            fresh = known is None or not 0 <= now - known.last <= settings.remembered
            file.networks.put(place, Place(1 if fresh or known is None else known.first + 1, now))
        return decision.wait

    def close(self) -> None:
        self._file.close()


def client_network(address: str) -> str:
    """The /24 or /64 that a client belongs to; the text itself where it is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or IPv6Address(int(parsed))  # without a zone
    return str(ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))
