"""Certificates that were renewed are taken without a word from anybody: each process looks at their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from hosting.composition import Parts
from hosting.roles.housekeeping import Ticking
from storage.errors import InvalidInput

log = logging.getLogger("tls")

EVERY = 60.0  # seconds


class Followed:
    """The server's own certificate and key."""

    def __init__(self, paths: Sequence[Path], reload: Sequence[Callable[[], object]]) -> None:
        """`reload` takes them as they are. Raises InvalidInput, and changes nothing, if they are no valid pair."""
        self._paths = paths
        self._reload = reload
        self._known = self._seen()

    def look(self) -> None:
        """Has them taken if they changed. A pair that does not fit is told once: the other half is being written."""
        now = self._seen()
        if now is None or now == self._known:
            return
        self._known = now
        try:
            for reload in self._reload:
                reload()
        except InvalidInput as error:
            log.error("the certificate was not taken: %s", error.public)
        else:
            log.info("the certificate was taken from its files")

    def _seen(self) -> list[tuple[int, int, int]] | None:
        """What tells one version of the files from the next; None while one is not there."""
        try:
            states = [path.stat() for path in self._paths]
        except OSError:
            return None
        return [(state.st_mtime_ns, state.st_size, state.st_ino) for state in states]


def follow_files(
    parts: Parts, reload: Sequence[Callable[[], object]], refresh: Sequence[Callable[[], object]]
) -> Ticking:
    """`reload` is called on the event loop after the own certificate changed, `refresh` in a thread each time."""
    paths = (parts.config.certificate(parts.data), parts.config.certificate_key(parts.data))
    followed = Followed(paths, reload)
    return Ticking(parts.reactor, EVERY, quick=[followed.look], blocking=refresh, at_stop=False)
