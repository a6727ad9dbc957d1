"""Certificates that were renewed are taken without a word from anybody: each process looks at their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from hosting.composition import Parts
from hosting.roles.housekeeping import Ticking
from storage.errors import InvalidInput

log = logging.getLogger("tls")

EVERY = 60.0  # seconds


def follow_files(
    parts: Parts, reload: Sequence[Callable[[], None]], refresh: Sequence[Callable[[], object]]
) -> Ticking:
    """`reload` is called on the event loop after the server's own certificate changed, `refresh` in a thread each time.

    A pair that does not fit is told once, and changes nothing; most often its other half is being written.
    """
    paths = (parts.config.certificate(parts.data), parts.config.certificate_key(parts.data))

    def seen() -> list[tuple[int, int, int]]:
        states = [path.stat() for path in paths]
        return [(state.st_mtime_ns, state.st_size, state.st_ino) for state in states]

    try:
        known = seen()
    except OSError:
        known = []

    def look() -> None:
        nonlocal known
        try:
            now = seen()
        except OSError:  # it is being replaced
            return
        if now == known:
            return
        known = now
        try:
            for call in reload:
                call()
        except InvalidInput as error:
            log.error("the certificate was not taken: %s", error.public)
        else:
            log.info("the certificate was taken from its files")

    return Ticking(parts.reactor, EVERY, quick=[look], blocking=refresh, at_stop=False)
