"""Chooses the event loop of a process; to be called before anything imports twisted.internet.reactor."""

from __future__ import annotations

import asyncio

from hosting.roles.table import ReactorName


def install(name: ReactorName) -> None:
    """The epoll reactor, or the asyncio reactor on uvloop."""
    if name == "epoll":
        from twisted.internet.main import installReactor  # noqa: PLC0415

        from hosting.roles import epoll  # noqa: PLC0415

        installReactor(epoll.new())
    else:
        import uvloop  # noqa: PLC0415
        from twisted.internet import asyncioreactor  # noqa: PLC0415

        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)  # services start before the loop runs, and must find this one
        asyncioreactor.install(loop)
