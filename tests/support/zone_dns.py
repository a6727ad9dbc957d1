"""Answers of DNS from a dictionary, without a socket: for tables of records that a test evaluates.

    dns = ZoneDns({"s1._domainkey.example.org": "v=DKIM1; p=..."})
    dns.failing.add("_dmarc.example.org")     # no answer
    dns.asked                                 # the names, in order

Values are TXT records, one or a list of them; a name that is given with an empty list exists without such records, and
so does each name above another. `loop_turns` lets every answer wait so many turns of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.dns.answers import Answer, CaaRecord, DnsStatus, MxRecord, SrvRecord, TlsaRecord

Texts = str | bytes | list[str | bytes]


class ZoneDns:
    """Implements `gateway.dns.answers.Dns`; there are no records but TXT."""

    def __init__(self, zone: Mapping[str, Texts] | None = None, *, loop_turns: int = 0) -> None:
        self.zone: dict[str, Texts] = dict(zone or {})
        self.failing: set[str] = set()
        self.endless: set[str] = set()  # names that are never answered
        self.asked: list[str] = []
        self.loop_turns = loop_turns

    async def _answer(self, name: str, *, texts: bool = False) -> Answer[Any]:
        self.asked.append(name)
        for _ in range(self.loop_turns):
            await asyncio.sleep(0)
        if name in self.endless:
            await asyncio.Event().wait()
        if name in self.failing:
            return Answer(DnsStatus.FAILED)
        if len(name) > 253:
            return Answer(DnsStatus.NO_NAME)
        found = self.zone.get(name, None)
        if found is None:
            above = any(each.endswith("." + name) for each in self.zone)
            return Answer(DnsStatus.NO_DATA if above else DnsStatus.NO_NAME)
        values = found if isinstance(found, list) else [found]
        if not texts or not values:
            return Answer(DnsStatus.NO_DATA)
        return Answer(DnsStatus.FOUND, tuple(v if isinstance(v, bytes) else v.encode() for v in values))

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._answer(name, texts=True)

    async def mx(self, name: str) -> Answer[MxRecord]:
        return await self._answer(name)

    async def a(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def aaaa(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def addresses(self, name: str) -> Answer[str]:
        return await self._answer(name)

    async def tlsa(self, name: str) -> Answer[TlsaRecord]:
        return await self._answer(name)

    async def ptr(self, address: str) -> Answer[str]:
        return await self._answer(address)

    async def srv(self, name: str) -> Answer[SrvRecord]:
        return await self._answer(name)

    async def caa(self, name: str) -> Answer[CaaRecord]:
        return await self._answer(name)
