"""Which domain a request is about, and whether it is served here.

A client names it by an address in its request, or by the host that it asks: the domain itself or one of the names that
lead here. Both may differ: a customer's address asked for at the provider's name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from storage.clock import Clock
from storage.errors import InvalidInput
from storage.values import Domain, EmailAddress

POLICY_HOST = "mta-sts."
HOSTS = ("autoconfig.", "autodiscover.", "ua-auto-config.", POLICY_HOST)  # names beside a domain that lead here

_ADDRESS_MAX = 320  # RFC 5321 §4.5.3.1
_HOST_MAX = 255 + 6
_MOST = 4096  # domains that are remembered, of whatever strangers ask for
_SECONDS = 30.0


def of_host(field: str) -> list[Domain]:
    """What a field Host may mean, the likeliest first; nothing for IP addresses and single labels."""
    host = _host(field)
    names = [*(host.removeprefix(prefix) for prefix in HOSTS if host.startswith(prefix)), host]
    return [domain for domain in map(_domain, names) if domain is not None]


def of_policy_host(field: str) -> list[Domain]:
    """As `of_host`, for what is found at mta-sts.<domain> only (RFC 8461 §3.3)."""
    host = _host(field)
    domain = _domain(host.removeprefix(POLICY_HOST)) if host.startswith(POLICY_HOST) else None
    return [] if domain is None else [domain]


def _host(field: str) -> str:
    return field[:_HOST_MAX].partition(":")[0].removesuffix(".").lower()


def of_address(text: str) -> Domain | None:
    """The domain of what may be an address; its other part may be anything, as in `%EMAILADDRESS%@example.org`."""
    return _domain(text[:_ADDRESS_MAX].rpartition("@")[2]) if "@" in text[:_ADDRESS_MAX] else None


def address_of(text: str) -> EmailAddress:
    """An address that may be repeated in an answer. Raises InvalidInput."""
    if len(text) > _ADDRESS_MAX or not text.isprintable():
        raise InvalidInput("This is not an e-mail address.")
    return EmailAddress.parse(text)


def _domain(text: str) -> Domain | None:
    with suppress(InvalidInput):
        domain = Domain.parse(text)
        return None if domain.name.rpartition(".")[2].isdecimal() else domain
    return None


class Known:
    """Remembers for half a minute what `asked` says, so that a flood of questions costs no look at the database.

    `recall` and `keep` belong to the event loop; `asked` blocks.
    """

    def __init__(self, asked: Callable[[Domain], bool], clock: Clock) -> None:
        self.asked = asked
        self._clock = clock
        self._known: OrderedDict[Domain, tuple[float, bool]] = OrderedDict()

    def recall(self, domain: Domain) -> bool | None:
        known = self._known.get(domain)
        return known[1] if known is not None and known[0] > self._clock.monotonic() else None

    def keep(self, domain: Domain, served: bool) -> None:
        self._known[domain] = (self._clock.monotonic() + _SECONDS, served)
        self._known.move_to_end(domain)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
