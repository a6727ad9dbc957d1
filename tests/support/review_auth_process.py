"""The auth role as a process: `python review_auth_process.py DATA USER`, where the server is said to run as USER."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from twisted.internet import reactor

from hosting import composition
from hosting.auth.requests import Holders, Requests
from hosting.auth.server import AuthService
from hosting.config import Config
from hosting.review.desk import ReviewDesk
from storage.clock import SystemClock
from storage.keys.source import LocalKeys


def main(data: Path, user: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    clock, config = SystemClock(), Config()
    keys = LocalKeys(composition.open_keystore(data, config, clock))
    installation = composition.open_installation(data, config, keys, clock)
    verifier = composition.make_verifier(installation, config, clock)
    desk = ReviewDesk(installation, keys, clock, server_users={user})
    requests = Requests(verifier, keys, Holders(), desk=desk)
    service = AuthService(reactor, composition.auth_socket(data), requests)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", installation.close)
    reactor.callWhenRunning(print, "listening", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
