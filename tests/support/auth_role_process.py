"""The auth role as a process: `python auth_role_process.py DATA`, with cheap argon2 and short time limits."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

from directory_premises import DirectoryPremises
from twisted.internet import reactor

from hosting.auth.passwords import Passwords
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.requests import Holders, Requests
from hosting.auth.server import AuthService, SocketLimits
from hosting.auth.throttle import Throttle
from hosting.auth.verifier import Verifier
from storage.clock import SystemClock
from storage.errors import CleanmailError
from storage.logs.access import AccessLog


def main(data: Path) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    clock = SystemClock()
    premises = DirectoryPremises(data)
    verifier = Verifier(
        premises,
        Passwords(time_cost=1, memory_kib=8, lanes=1),
        HashingPool(2),
        Throttle(clock),
        VerificationCache(clock),
        AccessLog(data, premises.keys, "test", clock),
        clock,
    )
    limits = SocketLimits(connections_per_process=40, hello_seconds=0.5, frame_seconds=0.5, reply_seconds=0.5)
    retire = partial(os.kill, os.getpid(), signal.SIGTERM)
    requests = Requests(verifier, premises.keys, Holders(), retire=retire)
    service = AuthService(reactor, data / "auth.sock", requests, limits=limits)
    try:
        service.startService()
    except CleanmailError as error:
        print(error.public, flush=True)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(print, "listening", flush=True)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
