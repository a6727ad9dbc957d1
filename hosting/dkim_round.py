"""The look of the jobs role at DKIM keys: those that were seen in DNS begin to sign, those whose time has come retire.

A round may be repeated at any time and after any crash; DNS is asked about keys that wait to be seen, and about
nothing else. Blocking: it runs in a thread, with an event loop of its own while DNS is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from gateway.dkim import publication
from gateway.dkim.publication import Seen, Sighting
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from storage.directory.dkim_keys import DkimKey, DkimState
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.values import TenantId

log = logging.getLogger("dkim")

EVERY = 900.0  # seconds between two rounds
AT_ONCE = 100  # keys that DNS is asked about at the same time


def dkim_round(installation: Installation, settings: DnsSettings) -> None:
    """Every tenant's keys. A tenant that cannot be opened is logged, and looked at again the next time."""
    waiting: list[tuple[TenantId, DkimKey]] = []
    for tenant in installation.control.tenants():
        if tenant.state is not State.ENDED:
            with _looking_at(tenant.tenant_id):
                keys = installation.tenant(tenant.tenant_id).dkim_keys
                _tell(tenant.tenant_id, keys.progress())
                waiting += [(tenant.tenant_id, key) for key in keys.find() if key.state is DkimState.MADE]
    if not waiting:
        return
    for tenant_id, seen in asyncio.run(_ask(settings, waiting)):
        with _looking_at(tenant_id):
            keys = installation.tenant(tenant_id).dkim_keys
            _tell(tenant_id, publication.progress(keys, [seen]))


async def _ask(settings: DnsSettings, waiting: list[tuple[TenantId, DkimKey]]) -> list[tuple[TenantId, Seen]]:
    """What DNS says about them, a number at a time; when it says nothing at all, the rest waits."""
    dns, found = Resolver(settings), list[tuple[TenantId, Seen]]()
    rest = iter(waiting)
    while some := list(islice(rest, AT_ONCE)):
        seen = await publication.look(dns, [key for _, key in some])
        found += [(tenant_id, each) for (tenant_id, _), each in zip(some, seen, strict=True)]
        if all(each.sighting is Sighting.UNKNOWN for each in seen):
            break
    return found


def _tell(tenant_id: TenantId, moved: list[DkimKey]) -> None:
    for key in moved:
        log.info("DKIM key %s of tenant %d is %s", key.selector, tenant_id, key.state)


@contextmanager
def _looking_at(tenant_id: TenantId) -> Iterator[None]:
    """One tenant's failure is no other's."""
    try:
        yield
    except (NotFound, Gone):  # ended meanwhile
        return
    except CleanmailError as error:
        log.error("DKIM keys of tenant %d were not looked at: %s", tenant_id, error.detail or error.public)
