"""Asks DNS lists about a client's address.

Raises nothing but cancellation; ends within the time limit. Only ordinary addresses of the internet are asked about:
nobody is told which addresses our own networks have. An answer outside 127.0.0.0/8 is a parked domain or a resolver
that lies; 127.255.255.x is the list's way to say that it does not serve this resolver. Neither lists anybody.

Standards: RFC 5782 §2.1 (IPv4), §2.4 (IPv6), RFC 5321 (the client).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from gateway.dns.answers import Answer, Dns
from gateway.dns_lists.lists import LOOPBACK, DnsList, Listing
from gateway.networks import is_public

LIMIT = 10.0  # seconds, for all lists
_REFUSALS = IPv4Network("127.255.255.0/24")


class DnsLists:
    """`lists` as configured. Zones are asked side by side."""

    def __init__(self, dns: Dns, lists: Sequence[DnsList], limit: float = LIMIT) -> None:
        self._dns = dns
        self._lists = tuple(lists)
        self._limit = limit

    async def listed(self, address: str) -> tuple[Listing, ...] | None:
        """Who names it, in the order of the configuration; None if no list gave an answer that can be used."""
        return await listed(self._dns, address, self._lists, self._limit)


async def listed(dns: Dns, address: str, lists: Sequence[DnsList], limit: float = LIMIT) -> tuple[Listing, ...] | None:
    """As `DnsLists.listed`."""
    name = query_name(address)
    if name is None or not lists:
        return ()
    zones = list(dict.fromkeys(each.zone for each in lists))
    tasks = {zone: asyncio.ensure_future(dns.a(f"{name}.{zone}")) for zone in zones}
    try:
        await asyncio.wait(tasks.values(), timeout=limit)
    finally:
        for task in tasks.values():
            task.cancel()
    answers = {zone: _codes(task) for zone, task in tasks.items()}
    if all(codes is None for codes in answers.values()):
        return None
    found = []
    for each in lists:
        codes = [code for code in answers[each.zone] or () if any(code in network for network in each.answers)]
        if codes:
            found.append(Listing(each.zone, tuple(map(str, sorted(codes))), each.weight, each.rejects))
    return tuple(found)


def query_name(address: str) -> str | None:
    """The name below a list's zone that stands for `address`; None for one that nobody is asked about."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if not is_public(parsed):
        return None
    return parsed.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _codes(task: asyncio.Future[Answer[str]]) -> tuple[IPv4Address, ...] | None:
    """The answers that may count; None if there is no answer, or only refusals to answer."""
    if not task.done() or task.cancelled() or task.exception() is not None or task.result().failed:
        return None
    codes, refused = [], False
    for record in task.result().records:
        try:
            code = IPv4Address(record)
        except ValueError:
            continue
        if code in _REFUSALS or code not in LOOPBACK:
            refused = True
        else:
            codes.append(code)
    return None if refused and not codes else tuple(codes)
