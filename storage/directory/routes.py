"""Where the mail of a tenant's domains goes: to mailboxes here, to the tenant's own server, or to either by recipient.

A domain without a route has its mailboxes here. Changes are durable on return and count for the next recipient.

Raises: NotFound (no route), InvalidInput.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import InvalidInput, NotFound
from storage.schema.tenant import route
from storage.values import Domain

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?\Z")


class Mode(StrEnum):
    HERE = "here"
    SERVER = "server"  # everything to the tenant's server
    SPLIT = "split"  # accounts and aliases that exist here stay here, the rest goes to the server


class RouteTls(StrEnum):
    """What is demanded of the connection to the tenant's server."""

    OPPORTUNISTIC = "opportunistic"
    ENCRYPTED = "encrypted"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Route:
    """`host` is a name or an IP address; there is no MX look-up."""

    domain: Domain
    mode: Mode
    host: str = ""
    port: int = 25
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    verify: bool = True  # the server is asked for each recipient before it is accepted

    @property
    def leads_out(self) -> bool:
        return self.mode is not Mode.HERE


_COLUMNS = (route.c.domain, route.c.mode, route.c.host, route.c.port, route.c.tls, route.c.verify)
_ONE = prepare(select(*_COLUMNS).where(route.c.domain == bindparam("which")))
_ALL = prepare(select(*_COLUMNS).order_by(route.c.domain))
_INSERT = prepare(insert(route))
_UPDATE = prepare(
    update(route)
    .where(route.c.domain == bindparam("which"))
    .values(
        mode=bindparam("by"),
        host=bindparam("name"),
        port=bindparam("number"),
        tls=bindparam("demand"),
        verify=bindparam("asked"),
    )
)
_DELETE = prepare(sql_delete(route).where(route.c.domain == bindparam("which")))


class Routes:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, domain: Domain) -> Route | None:
        """The route of exactly this domain, if it has one."""
        with self._database.reading() as connection:
            row = _ONE.one(connection, which=domain.name)
        return _route(row) if row is not None else None

    def all(self) -> list[Route]:
        """By their domains' names."""
        with self._database.reading() as connection:
            return [_route(row) for row in _ALL.rows(connection)]

    def set(self, wanted: Route) -> None:
        """In place of the domain's route, if it has one."""
        check(wanted)

        def work(transaction: Transaction) -> None:
            changed = _UPDATE.run(
                transaction,
                which=wanted.domain.name,
                by=wanted.mode.value,
                name=wanted.host,
                number=wanted.port,
                demand=wanted.tls.value,
                asked=wanted.verify,
            )
            if not changed:
                _INSERT.run(
                    transaction,
                    domain=wanted.domain.name,
                    mode=wanted.mode.value,
                    host=wanted.host,
                    port=wanted.port,
                    tls=wanted.tls.value,
                    verify=wanted.verify,
                    created=self._clock.now(),
                )

        self._database.write(work)

    def remove(self, domain: Domain) -> None:
        """The domain's mailboxes are here again."""
        if not self._database.write(lambda t: _DELETE.run(t, which=domain.name)):
            raise NotFound(f"The domain {domain} has no route; its mailboxes are here.")


def check(wanted: Route) -> None:
    """Raises InvalidInput unless the route can be used."""
    if not 1 <= wanted.port <= 65535:
        raise InvalidInput("A port is a number from 1 to 65535.")
    if wanted.leads_out and not _is_host(wanted.host):
        raise InvalidInput(f"'{wanted.host[:80]}' is neither a host name nor an IP address.")


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST.match(text) is not None
    return True


def _route(row: tuple[Any, ...]) -> Route:
    return Route(Domain(row[0]), Mode(row[1]), row[2], row[3], RouteTls(row[4]), bool(row[5]))
