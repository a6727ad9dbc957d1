"""Listening sockets: bound once by the supervisor, one for each worker, and inherited by worker after worker.

SO_REUSEPORT lets the kernel spread connections over the workers. Since the supervisor keeps every socket open, whoever
connects while a worker is being replaced waits in its queue and is not refused.

Raises: Unavailable with a sentence for the operator (port in use, privileged port, no such address).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from hosting.config import Listen
from storage.errors import Unavailable

BACKLOG = 1024

Bound = list[tuple[str, socket.socket]]  # (field of [listen], socket)


def bind(listen: Listen, names: Iterable[str]) -> Bound:
    """One socket for each name whose port is not 0 and each address."""
    bound: Bound = []
    try:
        for name in names:
            port = getattr(listen, name)
            bound += [(name, _bind(address, port, name)) for address in listen.addresses if port]
    except BaseException:
        close(bound)
        raise
    return bound


def close(bound: Bound) -> None:
    for _, sock in bound:
        sock.close()


def _bind(address: str, port: int, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise Unavailable(f"Port {port} of {address} ({name}) cannot be listened on: {_why(error)}.") from None
    return sock


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have the address"
    return (error.strerror or "unknown error").lower()


def is_in_use(listen: Listen, names: Iterable[str]) -> str | None:
    """A sentence if a port is taken by somebody else; SO_REUSEPORT alone would share it with another server of ours."""
    for name in names:
        port = getattr(listen, name)
        for address in listen.addresses if port else ():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((address, port))
                except OSError as error:
                    return f"Port {port} of {address} ({name}) cannot be listened on: {_why(error)}."
    return None
