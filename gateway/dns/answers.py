"""What DNS says, as values: records, whether the answer is signed, and which kind of "no" it was.

Nothing here is ever raised for what a name server does: a look-up that failed for now is an answer too (`FAILED`), and
whoever asks decides what that means to him. A name that does not exist and a name without such records differ, since
RFC 5321 §5.1 and RFC 7208 §4.4 treat them differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class DnsStatus(Enum):
    FOUND = "found"
    NO_NAME = "no such name"  # NXDOMAIN
    NO_DATA = "no such records"  # the name exists
    FAILED = "failed for now"  # no answer in time, SERVFAIL, REFUSED, an answer that cannot be read


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """`records` is empty unless `status` is FOUND. `secure`: a validating resolver that we trust set the AD bit."""

    status: DnsStatus
    records: tuple[T, ...] = ()
    secure: bool = False
    name: str = ""  # where the records stand after CNAMEs, without the last dot (RFC 7672 §2.2.2 asks for it)

    @property
    def failed(self) -> bool:
        return self.status is DnsStatus.FAILED

    def __bool__(self) -> bool:
        return self.status is DnsStatus.FOUND


@dataclass(frozen=True, slots=True, order=True)
class MxRecord:
    preference: int
    host: str  # lower case, without the last dot; "" is the root: the domain takes no mail (RFC 7505)


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """RFC 6698 §2.1."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


class Dns(Protocol):
    """Questions to DNS, cached as long as the answers allow. Names may have a last dot or not. Raises nothing."""

    async def mx(self, name: str) -> Answer[MxRecord]:
        """Sorted by preference."""
        ...

    async def a(self, name: str) -> Answer[str]:
        """IPv4 addresses."""
        ...

    async def aaaa(self, name: str) -> Answer[str]:
        """IPv6 addresses."""
        ...

    async def addresses(self, name: str) -> Answer[str]:
        """IPv6 and IPv4 addresses; FAILED only if neither question gave any and one failed."""
        ...

    async def txt(self, name: str) -> Answer[bytes]:
        """Each record's character strings joined (RFC 7208 §3.3)."""
        ...

    async def tlsa(self, name: str) -> Answer[TlsaRecord]: ...

    async def ptr(self, address: str) -> Answer[str]:
        """The names of an IP address."""
        ...

    async def srv(self, name: str) -> Answer[SrvRecord]: ...

    async def caa(self, name: str) -> Answer[CaaRecord]: ...


@dataclass(frozen=True, slots=True)
class SrvRecord:
    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class CaaRecord:
    flags: int
    tag: str
    value: str
