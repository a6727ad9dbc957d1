"""Backups that are made by themselves: in the jobs role, if [backup] directory is configured.

A round looks whether the newest backup is older than [backup] every_hours; then it makes one. Every round removes the
backups that have had their time (unless the clock is not believed), those too that people made elsewhere. What fails
is tried again with the next round. Blocking; `stop` ends a backup that is under way within a second, and leaves nothing
of it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from hosting.config import Config
from storage.backup.backup import BackupRun
from storage.backup.place import Keep, Place
from storage.backup.pruning import due, prune
from storage.backup.scratch import tidy
from storage.clock_guard import ClockGuard
from storage.errors import CleanmailError, Conflict, NotFound
from storage.installation import Installation
from storage.register.values import Kept

log = logging.getLogger("backup")

EVERY = 600.0  # seconds between two rounds


class _Stopped(Exception):  # noqa: N818
    """The process is to end."""


def keep_of(config: Config) -> Keep:
    most = config.retention.periods.of(Kept.BACKUPS).floor_days
    backup = config.backup
    return Keep(backup.daily, backup.weekly, backup.monthly, backup.monthly * 31 if most is None else most)


def secret_places(data: Path, config: Config) -> list[Path]:
    """What is never in a backup, even if it lies in the data directory: the master key, and copies of keys."""
    keys = config.keys
    return [data / place for place in (keys.master_file, keys.backup, keys.backup_copies) if place]


class BackupRound:
    def __init__(self, installation: Installation, config: Config) -> None:
        self._installation = installation
        self._config = config
        self._stopping = False
        self._unreachable: set[str] = set()  # folders of backups, told once

    def stop(self) -> None:
        self._stopping = True

    def look(self) -> None:
        """Make a backup if it is time; remove those that have had theirs, wherever they were made."""
        if self._stopping:
            return
        try:
            tidy(self._installation.data)
            if self._config.backup.directory:
                place = Place(Path(self._installation.data / self._config.backup.directory))
                if self._is_due(place):
                    self._make(place)
            self._prune()
        except _Stopped:
            log.info("a backup was given up, since the process ends")
        except Conflict:  # somebody makes one this moment
            return
        except CleanmailError as error:
            log.error("backups: %s", error.detail or error.public)

    def _is_due(self, place: Place) -> bool:
        try:
            mine = place.all(self._installation.keys.verifying_key("manifest"))
        except NotFound:
            return True
        age = self._installation.clock.now() - mine[-1].manifest.made if mine else None
        return age is None or age >= self._config.backup.every_hours * 3600 or age < 0

    def _make(self, place: Place) -> None:
        installation = self._installation
        excluded = secret_places(installation.data, self._config)
        made = BackupRun(installation, place, keep_of(self._config), excluded=excluded, look=self._look).make()
        manifest = made.stored.manifest
        log.info("backup %s: %d files, %d of them new", made.stored.name, manifest.files, made.taken)
        if manifest.missing or manifest.skipped:
            log.error(
                "backup %s is not whole: %d files are missing, %d parts were left out",
                made.stored.name,
                len(manifest.missing),
                len(manifest.skipped),
            )

    def _prune(self) -> None:
        installation = self._installation
        for folder in sorted(due(installation)):
            if not Path(folder).is_dir():
                if folder not in self._unreachable:
                    log.warning("backups that have had their time cannot be removed: their folder is not there")
                self._unreachable.add(folder)
                continue
            check = ClockGuard(installation.data, installation.clock).check
            for name in prune(installation, Place(Path(folder)), check=check):
                log.info("backup %s has had its time and was removed", name)

    def _look(self) -> None:
        if self._stopping:
            raise _Stopped
