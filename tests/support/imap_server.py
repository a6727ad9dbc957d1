"""The IMAP service in a process's background thread, on real sockets with real TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from imap_town import MailTown
from twisted.internet import reactor as _reactor
from twisted.internet import threads

from hosting.imap.counters import Counters
from hosting.imap.shell.service import ImapService, Listener
from hosting.tls import ReloadableContext, make_self_signed
from storage.changes import Subscriber

reactor: Any = _reactor
Result = TypeVar("Result")
_started = threading.Event()


@dataclass
class RunningServer:
    service: ImapService
    address: tuple[str, int]  # STARTTLS
    tls_address: tuple[str, int]
    client_context: ssl.SSLContext


def _start_reactor() -> None:
    """Once in a test process; Twisted's reactor can't be started twice."""
    if not _started.is_set():
        reactor.callWhenRunning(_started.set)
        threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
        _started.wait(20)


def in_reactor(call: Callable[[], Result]) -> Result:
    """The result of a call in the event loop."""
    result: Result = threads.blockingCallFromThread(reactor, call)
    return result


@contextmanager
def running_server(town: MailTown, *, plain_allowed: bool = False, proxies: Any = ()) -> Iterator[RunningServer]:
    _start_reactor()
    folder = Path(town.data) / "tls"
    make_self_signed(folder, ["localhost", "127.0.0.1"])
    sockets = []
    for _ in range(2):
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        bound.listen(100)
        bound.setblocking(False)
        sockets.append(bound)
    subscriber = Subscriber(town.data, town.clock, only_watched=True)
    service = ImapService(
        reactor,
        [Listener(sockets[0], False), Listener(sockets[1], True)],
        town.installation,
        town.authenticator,
        town.clock,
        town.limits,
        Counters(),
        tls_context=ReloadableContext(folder / "certificate.pem", folder / "key.pem"),
        plain_allowed=plain_allowed,
        proxies=proxies,
        subscriber=subscriber,
    )
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    threads.blockingCallFromThread(reactor, service.startService)
    try:
        yield RunningServer(service, sockets[0].getsockname(), sockets[1].getsockname(), context)
    finally:
        threads.blockingCallFromThread(reactor, service.stopService)
        subscriber.close()
        for bound in sockets:
            bound.close()
