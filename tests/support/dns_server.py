"""A name server on loopback for tests: answers of its own zone, and any lie that a test asks for.

    with DnsServer({"example.test": {"MX": "10 mx.example.test.", "TXT": "v=spf1 mx -all"},
                    "mx.example.test": {"A": ["192.0.2.1", "192.0.2.2"]}}) as server:
        Resolver(DnsSettings(nameservers=("127.0.0.1",), port=server.port))
        server.lie("slow.test", Lie(delay=0.5))
        server.asked("example.test", "MX")

It answers UDP and TCP on one port, from a thread of its own. Names have no last dot and are compared without case.
Records are in zone form; targets need their last dot. A TXT without quotes becomes one, in strings of 255 octets.
A name that is not in the zone, and has none below it, is NXDOMAIN; `*.example.test` answers for what is not named.
CNAMEs are followed within the zone, as a recursive name server does. `zone` may be changed at any time.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Records = str | Iterable[str]
Zone = dict[str, dict[str, Records]]

CHAIN = 20  # a CNAME that leads to itself is followed so often
SOA = "ns.test. hostmaster.test. 1 3600 600 86400 {ttl}"


@dataclass(frozen=True)
class Lie:
    """What the server does instead of answering rightly; several can be combined."""

    rcode: str = ""  # SERVFAIL, REFUSED, NXDOMAIN, FORMERR, NOTIMP
    delay: float = 0.0  # seconds before the answer
    silent: bool = False
    truncated: bool = False  # over UDP: no records and the TC bit; TCP gives the answer
    only_truncated: bool = False  # the TC bit over UDP, and nothing at all over TCP
    wrong_id: bool = False
    garbage: bool = False  # octets that are no DNS message
    endless: bool = False  # a CNAME that leads to another name, for ever
    other_question: bool = False  # an answer to what nobody asked
    scrambled: bool = False  # octets behind the header are others, by chance
    times: int = -1  # how often; -1: always


class DnsServer:
    def __init__(self, zone: Mapping[str, Mapping[str, Records]] | None = None, *, ttl: int = 60) -> None:
        self.zone: Zone = {_key(name): dict(records) for name, records in (zone or {}).items()}
        self.ttl = ttl
        self.ttls: dict[str, int] = {}  # of single names
        self.secure = False  # the AD bit on every answer
        self.secure_names: set[str] = set()  # the AD bit on answers to questions about these names
        self.questions: Counter[tuple[str, str]] = Counter()
        self.over_tcp: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self._chance = random.Random(1)
        self._lies: dict[tuple[str, str], Lie] = {}
        self._told: Counter[tuple[str, str]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> DnsServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    @property
    def nameservers(self) -> tuple[str, ...]:
        return ("127.0.0.1",)

    def put(self, name: str, **records: Records) -> None:
        """Records of `name` instead of those of these types before: put("a.test", MX=["10 b.test."])."""
        self.zone[_key(name)] = {**self.zone.get(_key(name), {}), **records}

    def remove(self, name: str) -> None:
        self.zone.pop(_key(name), None)

    def lie(self, name: str, lie: Lie | None, rdtype: str = "") -> None:
        """Lie about `name` ("*": about everything), for one type or all; None: be honest again."""
        if lie is None:
            self._lies.pop((_key(name), rdtype), None)
        else:
            self._lies[_key(name), rdtype] = lie
        self._told.pop((_key(name), rdtype), None)

    def asked(self, name: str, rdtype: str = "") -> int:
        """How often this was asked, over UDP and TCP."""
        key = _key(name)
        return sum(n for (asked, kind), n in self.questions.items() if asked == key and rdtype in ("", kind))

    # Sockets

    async def _listen(self) -> None:
        tcp, udp = _sockets()
        self.port = tcp.getsockname()[1]
        self._tcp = await asyncio.start_server(self._serve_tcp, sock=tcp)
        self._udp, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire, delay = self._respond(await reader.readexactly(length), tcp=True)
                if delay:
                    await asyncio.sleep(delay)
                if wire:
                    writer.write(struct.pack("!H", len(wire)) + wire)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def datagram(self, data: bytes, peer: tuple[str, int]) -> None:
        wire, delay = self._respond(data, tcp=False)
        if wire:
            self._loop.call_later(delay, self._udp.sendto, wire, peer)

    # Answers

    def _respond(self, data: bytes, *, tcp: bool) -> tuple[bytes, float]:
        try:
            query = dns.message.from_wire(data)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return b"", 0.0
        name, rdtype = _key(_text(question.name)), dns.rdatatype.to_text(question.rdtype)
        self.questions[name, rdtype] += 1
        if tcp:
            self.over_tcp[name, rdtype] += 1
        lie = self._lie_about(name, rdtype)
        if lie.silent or (lie.only_truncated and tcp):
            return b"", 0.0
        reply = dns.message.make_response(query, recursion_available=True)
        if self.secure or name in self.secure_names:
            reply.flags |= dns.flags.AD
        if lie.rcode:
            reply.set_rcode(dns.rcode.from_text(lie.rcode))
        elif lie.endless:
            target = dns.name.from_text(f"x{self.questions.total()}.{name}")
            reply.answer.append(_rrset(question.name, self.ttl, "CNAME", target.to_text()))
            self._lies[_key(target.to_text()), ""] = lie
        elif (lie.truncated or lie.only_truncated) and not tcp:
            reply.flags |= dns.flags.TC
        else:
            self._fill(reply, question.name, rdtype)
        if lie.wrong_id:
            reply.id = query.id ^ 0x5555
        if lie.other_question:
            reply.question = [dns.rrset.from_text("other.test.", 0, "IN", rdtype)]
        wire = b"\x00garbage" if lie.garbage else self._wire(reply, query, tcp)
        return self._scrambled(wire) if lie.scrambled else wire, lie.delay

    def _wire(self, reply: dns.message.Message, query: dns.message.Message, tcp: bool) -> bytes:
        limit = 65535 if tcp else max(512, query.payload if query.edns >= 0 else 512)
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            reply.flags |= dns.flags.TC
            reply.answer.clear()
            return reply.to_wire()

    def _scrambled(self, wire: bytes) -> bytes:
        octets = bytearray(wire)
        for _ in range(self._chance.randint(1, 4)):
            octets[self._chance.randrange(2, len(octets))] = self._chance.randrange(256)
        return bytes(octets[: self._chance.choice((len(octets), self._chance.randrange(2, len(octets))))])

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, rdtype: str) -> None:
        for _ in range(CHAIN):
            key = _key(_text(name))
            records = self._records(key)
            ttl = self.ttls.get(key, self.ttl)
            if records is not None and rdtype in records:
                reply.answer.append(_rrset(name, ttl, rdtype, records[rdtype]))
                return
            if records is None or "CNAME" not in records:
                if records is None and not self._below(key):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                reply.authority.append(_rrset(dns.name.from_text("test."), ttl, "SOA", SOA.format(ttl=ttl)))
                return
            reply.answer.append(_rrset(name, ttl, "CNAME", records["CNAME"]))
            name = reply.answer[-1][0].target

    def _records(self, key: str) -> dict[str, Records] | None:
        if key in self.zone:
            return self.zone[key]
        if self._below(key):
            return None
        _, dot, parent = key.partition(".")
        while dot:
            if f"*.{parent}" in self.zone:
                return self.zone[f"*.{parent}"]
            if parent in self.zone:
                return None  # RFC 4592 §3.3.1: the closest encloser decides
            _, dot, parent = parent.partition(".")
        return None

    def _below(self, key: str) -> bool:
        return any(name.endswith("." + key) for name in list(self.zone))

    def _lie_about(self, name: str, rdtype: str) -> Lie:
        for key in ((name, rdtype), (name, ""), ("*", rdtype), ("*", "")):
            lie = self._lies.get(key)
            if lie is not None and (lie.times < 0 or self._told[key] < lie.times):
                self._told[key] += 1
                return lie
        return Lie()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.datagram(data, addr)


def _sockets() -> tuple[socket.socket, socket.socket]:
    """A listening TCP socket and a UDP socket with the same port."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        udp.setblocking(False)
        return tcp, udp


def _key(name: str) -> str:
    return name.lower().rstrip(".")


def _text(name: dns.name.Name) -> str:
    """Without the escapes of zone files: a space in a label is a space."""
    return b".".join(name.labels).decode("latin-1")


def _rrset(name: dns.name.Name, ttl: int, rdtype: str, records: Records) -> dns.rrset.RRset:
    texts = [records] if isinstance(records, str) else list(records)
    if rdtype in ("TXT", "SPF"):
        texts = [_quoted(text) for text in texts]
    return dns.rrset.from_text_list(name, ttl, "IN", rdtype, texts)


def _quoted(text: str) -> str:
    if text.startswith('"'):
        return text
    octets = text.encode("utf-8")
    pieces = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(_escaped(octet) for octet in piece) + '"' for piece in pieces)


def _escaped(octet: int) -> str:
    character = chr(octet)
    if character in '"\\':
        return "\\" + character
    return character if 32 <= octet < 127 else f"\\{octet:03d}"
