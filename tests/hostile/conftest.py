"""A server with short time limits and low counts, and a well-behaved client that must be served meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from dns_server import DnsServer
from whole_server import WholeServer, forget_peak, peak_memory, running

MB = 1024 * 1024
SETTINGS = """
[imap]
sign_in_timeout = 3
idle_timeout = 6
connections_per_address = 30
connections_per_account = 12
message = 8000000
[submission]
message_size = 4000000
command_timeout = 4
data_timeout = 3
sign_in_timeout = 3
handshake_timeout = 3
connections_per_address = 30
connections_per_account = 12
[mx]
unlimited = []
sender_check_timeout = 5
[mx.limits]
message_size = 4000000
command_timeout = 4
data_timeout = 3
handshake_timeout = 3
connections_per_address = 30
connections_per_minute = 300
[web]
bodies = 67108864
head_timeout = 2
body_timeout = 2
write_timeout = 3
connections_per_address = 30
"""

SMALL = '<D:propfind xmlns:D="DAV:"><D:prop><D:sync-token/></D:prop></D:propfind>'
ANSWER = 10.0  # seconds that nobody waits for an answer, on a slow machine that does other things as well

Meanwhile = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    with DnsServer({}) as dns:
        settings = f'{SETTINGS}[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
        with running(WholeServer(tmp_path_factory.mktemp("hostile"), settings=settings)) as server:
            yield server
            log = server.log()
            assert "Traceback" not in log and "unexpected" not in log, log[-3000:]
            assert "is started again" not in log and server.check() == []


@pytest.fixture
def meanwhile(server: WholeServer) -> Meanwhile:
    """`with meanwhile(role, growth=..., answer=...)`: the role's memory grows by less than `growth` octets at any
    moment of the block, and bob, at another address, gets each answer within `answer` seconds."""

    @contextmanager
    def watching(role: str, *, growth: int = 16 * MB, answer: float = ANSWER) -> Iterator[None]:
        [pid] = server.pids(role)
        served, over = threading.Event(), threading.Event()
        slowest: list[float] = []
        failures: list[BaseException] = []
        asking = threading.Thread(target=ask, args=(server, role, served, over, slowest, failures))
        before = forget_peak(pid)
        asking.start()
        served.wait(30)
        try:
            yield
        finally:
            over.set()
            asking.join()
        assert failures == [] and slowest
        grown = peak_memory(pid) - before
        assert server.pids(role) == [pid], "the process did not survive"
        assert grown < growth, f"memory grew by {grown / MB:.1f} MB"
        assert max(slowest) < answer, f"somebody else waited {max(slowest):.2f} s"

    return watching


def connected(server: WholeServer, role: str) -> Any:
    opened = {"smtp": server.smtp, "web": server.dav}.get(role, server.imap)
    return opened("bob@one.test", source="127.0.0.2")


def ask(
    server: WholeServer,
    role: str,
    served: threading.Event,
    over: threading.Event,
    slowest: list[float],
    failures: list[BaseException],
) -> None:
    """NOOP after NOOP until it is over, and at least once at the end; over HTTP, how large bob's calendar is."""
    try:
        with connected(server, role) as client:
            last = False
            while not last:
                last = over.wait(0.02)
                begun = time.monotonic()
                if role == "web":
                    assert client.ask("PROPFIND", "/dav/calendars/bob@one.test/", SMALL).status == 207
                else:
                    answer = client.command(b"NOOP")
                    assert getattr(answer, "ok", True) and (role != "smtp" or answer[0] == 250)
                slowest.append(time.monotonic() - begun)
                served.set()
    except BaseException as error:
        failures.append(error)
        served.set()
