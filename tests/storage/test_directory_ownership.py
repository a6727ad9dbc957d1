"""TXT look-ups against a name server on loopback: found, absent, broken, silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from storage.directory.ownership import DnsTxt
from storage.errors import Unavailable
from storage.values import Domain

DOMAIN = Domain.parse("example.test")
NAME = "_cleanmail.example.test."

Answer = Callable[[dns.message.Message], dns.message.Message | None]


@contextmanager
def name_server(answer: Answer) -> Iterator[DnsTxt]:
    """A look-up that asks a server on loopback; None as the answer is silence."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            data, peer = server.recvfrom(4096)
            if not data:
                return
            reply = answer(dns.message.from_wire(data))
            if reply is not None:
                server.sendto(reply.to_wire(), peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield DnsTxt(["127.0.0.1"], port=server.getsockname()[1], timeout=0.3)
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", server.getsockname())
        thread.join()
        server.close()


def texts(*records: str) -> Answer:
    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        assert query.question[0].name.to_text() == NAME
        if records:
            reply.answer.append(dns.rrset.from_text(NAME, 60, "IN", "TXT", *records))
        return reply

    return answer


def code(rcode: dns.rcode.Rcode) -> Answer:
    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.set_rcode(rcode)
        return reply

    return answer


def test_every_record_counts_and_strings_are_joined() -> None:
    """RFC 1035 §3.3.14: a TXT record may hold several character strings."""
    with name_server(texts('"v=spf1 -all"', '"0123" "4567"', '" spaced "')) as lookup:
        assert set(lookup(DOMAIN)) == {"v=spf1 -all", "01234567", "spaced"}


@pytest.mark.parametrize("answer", [texts(), code(dns.rcode.NXDOMAIN)])
def test_no_record_is_an_answer(answer: Answer) -> None:
    with name_server(answer) as lookup:
        assert not lookup(DOMAIN)


def test_silence_is_told_in_time() -> None:
    with name_server(lambda query: None) as lookup, pytest.raises(Unavailable, match="no answer"):
        lookup(DOMAIN)


def test_a_name_server_that_cannot_is_told() -> None:
    with name_server(code(dns.rcode.SERVFAIL)) as lookup, pytest.raises(Unavailable, match=r"example\.test"):
        lookup(DOMAIN)
