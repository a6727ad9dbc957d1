"""The auth role: the only holder of the master key; verifies passwords and leases keys over a Unix socket.

After a contract's end it is replaced, as each process that held its keys; clients wait for the next one.
"""

from __future__ import annotations

import os
import signal
from functools import partial

from hosting import composition
from hosting.auth.mailbox_rights import DirectoryRights
from hosting.auth.requests import Holders, Requests
from hosting.auth.server import AuthService
from hosting.composition import Parts
from hosting.ending import LettingGo
from hosting.review.desk import ReviewDesk
from hosting.roles.housekeeping import every_second
from hosting.roles.service import RoleService

THREADS = 8  # that answer requests; argon2 has threads of its own


def make_service(parts: Parts) -> RoleService:
    assert parts.verifier is not None
    server_users = composition.server_users(parts.data, parts.config)
    staff = parts.config.staff
    desk = ReviewDesk(parts.installation, parts.keys, parts.clock, server_users=server_users, staff=staff)
    entrance = composition.make_entrance(parts.installation, parts.data, parts.config, parts.clock, parts.verifier)
    entrance.premises.remember()
    auditors = parts.config.logs.auditors
    holders = Holders(parts.data / "run" / "holders")
    ends = parts.installation.control.endings.is_ordered
    retire = partial(os.kill, os.getpid(), signal.SIGTERM) if parts.supervised else None  # a clean stop
    requests = Requests(
        parts.verifier,
        parts.keys,
        holders,
        auditors=auditors,
        desk=desk,
        entrance=entrance,
        ends=ends,
        retire=retire,
        mailbox_rights=DirectoryRights(parts.installation),
        tokens=composition.make_tokens(parts.data, parts.config, parts.verifier),
    )
    socket = AuthService(parts.reactor, composition.auth_socket(parts.data), requests, threads=THREADS)
    return RoleService([socket, LettingGo(parts), every_second(parts)])
