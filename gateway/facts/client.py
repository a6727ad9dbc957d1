"""What DNS says about a client, from its connection on: its name, and the lists that name it.

What is asked for is waited for only where it counts, and no longer than whoever waits allows; a late answer is "not
known". The questions of a session end with it. Raises nothing but cancellation.

Standards: RFC 1912 §2.1 and RFC 5321 §4.4 (names that lead back), RFC 5782 (DNS lists).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias, TypeVar

from gateway.dns.answers import Answer, Dns, DnsStatus
from gateway.dns_lists import DnsList, DnsLists, Listing
from gateway.smtp.proxy import Network, is_among

T = TypeVar("T")
Listings: TypeAlias = tuple[Listing, ...]

_NAMES = 3  # of an address that are looked at
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class ClientInquiry:
    """About one client; what is being asked. Belongs to the event loop that began it."""

    trusted: bool
    _name: asyncio.Task[str | None]
    _listings: asyncio.Task[Listings | None] | None  # None: no list is asked

    async def name(self, within: float) -> str | None:
        """What DNS knows it as, both ways; "" for nothing. None: not known after at most so many seconds."""
        return await _result(self._name, within)

    async def listings(self, within: float) -> Listings | None:
        """The DNS lists that name it. None: not known after at most so many seconds."""
        return () if self._listings is None else await _result(self._listings, within)

    def cancel(self) -> None:
        self._name.cancel()
        if self._listings is not None:
            self._listings.cancel()


class ClientChecks:
    """Begins inquiries, for all connections of a process."""

    def __init__(
        self,
        dns: Dns,
        lists: Sequence[DnsList] = (),
        trusted: Sequence[Network] = (),
        *,
        limit: float = 20.0,
        lists_limit: float = 10.0,
    ) -> None:
        """Clients in networks of `trusted` filter their mail themselves: no list is asked about them."""
        self._dns = dns
        self._lists = DnsLists(dns, lists, lists_limit) if lists else None
        self._trusted = tuple(trusted)
        self._limit = limit

    def begin(self, address: str) -> ClientInquiry:
        loop = asyncio.get_running_loop()
        trusted = is_among(address, self._trusted)
        lists = None if trusted else self._lists
        return ClientInquiry(
            trusted,
            loop.create_task(self._name(address)),
            None if lists is None else loop.create_task(lists.listed(address)),
        )

    async def _name(self, address: str) -> str | None:
        try:
            async with asyncio.timeout(self._limit):
                names = await self._dns.ptr(address)
                failed = names.failed
                for name in names.records[:_NAMES]:
                    if _NAME.match(name):
                        back = await self._dns.addresses(name)
                        if _leads_to(back, address):
                            return name
                        failed = failed or back.failed
        except TimeoutError:
            return None
        return None if failed else ""


async def _result(task: asyncio.Task[T | None], within: float) -> T | None:
    if not task.done():
        await asyncio.wait([task], timeout=within)
    return task.result() if task.done() and not task.cancelled() and task.exception() is None else None


def _leads_to(answer: Answer[str], address: str) -> bool:
    wanted = ip_address(address)
    return answer.status is DnsStatus.FOUND and any(ip_address(each) == wanted for each in answer.records)
