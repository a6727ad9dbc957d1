"""Records of DNS as the values of `gateway.dns.answers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import dns.rdtypes.ANY.CAA
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
from dns.rdata import Rdata

from gateway.dns.answers import CaaRecord, MxRecord, SrvRecord, TlsaRecord
from gateway.dns.names import from_dns

T = TypeVar("T")
Reader = Callable[[Rdata], T]


def address(record: Rdata) -> str:
    return str(cast(dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA, record).address)


def mx(record: Rdata) -> MxRecord:
    record = cast(dns.rdtypes.ANY.MX.MX, record)
    return MxRecord(record.preference, from_dns(record.exchange))


def txt(record: Rdata) -> bytes:
    return b"".join(cast(dns.rdtypes.ANY.TXT.TXT, record).strings)


def tlsa(record: Rdata) -> TlsaRecord:
    record = cast(dns.rdtypes.ANY.TLSA.TLSA, record)
    return TlsaRecord(record.usage, record.selector, record.mtype, record.cert)


def ptr(record: Rdata) -> str:
    return from_dns(cast(dns.rdtypes.ANY.PTR.PTR, record).target)


def srv(record: Rdata) -> SrvRecord:
    record = cast(dns.rdtypes.IN.SRV.SRV, record)
    return SrvRecord(record.priority, record.weight, record.port, from_dns(record.target))


def caa(record: Rdata) -> CaaRecord:
    record = cast(dns.rdtypes.ANY.CAA.CAA, record)
    return CaaRecord(
        record.flags, record.tag.decode("ascii", "replace").lower(), record.value.decode("utf-8", "replace")
    )
