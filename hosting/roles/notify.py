"""Tells systemd how the service is doing, if it asked (sd_notify(3)): one datagram to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def ready() -> None:
    _send("READY=1")


def reloading() -> None:
    """Type=notify-reload wants to know when the reload began."""
    _send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    _send("STOPPING=1")


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.send(message.encode())
