"""What the jobs role does about copies of keys/: removes those that expired, renews those that are scheduled, repairs.

A copy that no generation of the master opens any more is removed too, and after such a change the scheduled copy
([keys] backup_copies) is made anew at once. The mirror ([keys] backup) is compared with keys/ each hour and made whole.
Whoever has to look after the copies is told by an error in the log and by metrics as long as something is wrong; so is
he each hour, while the master in use is a file of which nobody said that it was saved ([keys] saved_within). A
round may be repeated at any time and after any crash; with a clock that is not believed nothing is removed. Blocking.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from hosting.config import Keys
from hosting.metrics import Metrics
from storage.clock import Clock
from storage.clock_guard import ClockGuard
from storage.directory.key_backups import KeyBackup, KeyBackups
from storage.directory.marks import MasterSaved
from storage.errors import CleanmailError, Unavailable
from storage.installation import Installation
from storage.keys import copies
from storage.keys.files import KeyFiles
from storage.keys.mirror import Mirror

log = logging.getLogger("keys")

EVERY = 60.0  # seconds between two rounds
MIRROR_EVERY = 60  # rounds between two comparisons of the mirror: it reads every key file twice
TELL_EVERY = 60  # rounds between two warnings of a master that nobody has saved

DAY = 86_400


@dataclass(frozen=True, slots=True)
class CopiesState:
    """How the copies of keys stand."""

    newest: KeyBackup | None  # that opens with the master of now
    alarms: tuple[str, ...]  # one sentence each


class KeysRound:
    def __init__(self, installation: Installation, settings: Keys, metrics: Metrics) -> None:
        self._installation = installation
        self._settings = settings
        self._metrics = metrics
        self._clock = ClockGuard(installation.data, installation.clock)
        self._until_mirror = 0
        self._mirror_broken = False
        self._until_warning = 0
        self._told: tuple[str, ...] = ()

    def look(self) -> None:
        keys, backups = self._installation.data / "keys", self._installation.control.key_backups
        now = self._installation.clock.now()
        try:
            self._clock.check()
            remove_due(keys, backups, now)
        except CleanmailError as error:
            log.error("copies of keys are not removed: %s", error.public)
        try:
            renew(keys, backups, self._settings, self._installation.clock)
        except CleanmailError as error:
            log.error("the copy of the keys is not made: %s", error.public)
        if self._settings.backup and self._until_mirror <= 0:
            self._until_mirror = MIRROR_EVERY
            self._mirror_broken = repair_mirror(keys, Path(self._settings.backup)) < 0
        self._until_mirror -= 1
        state = state_of(keys, backups, self._settings, now)
        if self._mirror_broken and Path(self._settings.backup).is_dir():
            state = CopiesState(state.newest, (*state.alarms, "The mirror of the keys cannot be made whole."))
        self._tell(state, now)
        self._tell_of_master(now)

    def _tell_of_master(self, now: int) -> None:
        if not kept_by_people(self._settings):
            return
        generation = copies.master_generation(self._installation.data / "keys")
        saved = self._installation.control.marks.master_saved(generation)
        self._metrics.master_unsaved.set(unsaved_for(saved, now))
        self._until_warning -= 1
        if self._until_warning < 0 and (alarm := unsaved(saved, generation, self._settings, now)):
            self._until_warning = TELL_EVERY - 1
            log.warning("%s", alarm)

    def _tell(self, state: CopiesState, now: int) -> None:
        left = state.newest.expires - now if state.newest is not None else 0
        self._metrics.key_backup_left.set(max(left, 0))
        self._metrics.key_backup_alarms.set(len(state.alarms))
        if state.alarms != self._told:
            self._told = state.alarms
            for alarm in state.alarms:
                log.error("%s", alarm)


def make(keys: Path, backups: KeyBackups, place: Path, days: int, clock: Clock) -> KeyBackup:
    """A dated copy in the folder `place`, recorded before its first file is written."""
    if not place.is_dir():
        raise Unavailable(f"The folder {place} is not there: mount its disk, or make it.")
    now = clock.now()
    recorded = backups.record(
        copies.folder_of(place, now), expires=now + days * DAY, master=copies.master_generation(keys)
    )
    try:
        copies.make_copy(keys, recorded.folder, made=recorded.made, expires=recorded.expires)
    except CleanmailError:
        if copies.is_gone(recorded.folder):
            backups.removed(recorded.backup_id)
        raise
    return recorded


def remove_due(keys: Path, backups: KeyBackups, now: int | None) -> int:
    """Copies that expired, and those that the master of now does not open; how many. One's failure is no other's.

    `now`: None removes none that expired.
    """
    generation = copies.master_generation(keys)
    removed = 0
    for backup in backups.left():
        if (now is not None and backup.expires <= now) or backup.master < generation:
            try:
                copies.remove_copy(backup.folder)
            except CleanmailError as error:
                log.error("copy %s of the keys is not removed: %s", backup.backup_id, error.public)
                continue
            backups.removed(backup.backup_id)
            removed += 1
            log.info("copy %s of the keys was removed", backup.backup_id)
    return removed


def renew(keys: Path, backups: KeyBackups, settings: Keys, clock: Clock) -> KeyBackup | None:
    """The scheduled copy, if there is none that opens with the master of now and has half of its time left."""
    if not settings.backup_copies:
        return None
    place, generation, now = Path(settings.backup_copies), copies.master_generation(keys), clock.now()
    fresh = now + settings.backup_days * DAY // 2
    for backup in backups.left():
        if backup.folder.parent == place and backup.master == generation and backup.expires > fresh:
            return None
    return make(keys, backups, place, settings.backup_days, clock)


def repair_mirror(keys: Path, mirror: Path) -> int:
    """How many of its files differed; -1 if it cannot be read or written."""
    try:
        if not Mirror(mirror).differences(keys):
            return 0
        with KeyFiles(keys).locked():
            repaired = Mirror(mirror).follow(keys)
    except CleanmailError as error:
        log.error("the mirror of the keys is not whole: %s", error.detail or error.public)
        return -1
    if repaired:
        log.warning("the mirror of the keys was made whole: %d files differed", repaired)
    return repaired


def state_of(keys: Path, backups: KeyBackups, settings: Keys, now: int) -> CopiesState:
    """What `keys status` and the metrics say."""
    generation = copies.master_generation(keys)
    left = backups.left()
    usable = [backup for backup in left if backup.master == generation and backup.expires > now]
    newest = max(usable, key=lambda backup: backup.expires, default=None)
    alarms = []
    overdue = [backup for backup in left if backup.expires <= now]
    if overdue:
        alarms.append(f"{len(overdue)} copies of the keys have expired and are not removed: mount their disks.")
    if settings.backup_copies and newest is None:
        alarms.append("No copy of the keys opens with the master of now ([keys] backup_copies).")
    elif newest is not None and newest.expires - now < settings.backup_days * DAY // 4:
        alarms.append("The newest copy of the keys is about to expire: make one with cleanmail keys backup.")
    elif newest is None and left:
        alarms.append("No copy of the keys is left that opens with the master of now: make one.")
    if settings.backup and not Path(settings.backup).is_dir():
        alarms.append("The folder of the keys' mirror ([keys] backup) is not there; no new key is made without it.")
    return CopiesState(newest, tuple(alarms))


def kept_by_people(settings: Keys) -> bool:
    """Whether somebody has to save each generation of the master: not where it comes from a key store of theirs."""
    return not settings.master_command


def unsaved_for(saved: MasterSaved, now: int) -> int:
    """Seconds."""
    return 0 if saved.unsaved_since is None else max(0, now - saved.unsaved_since)


def unsaved(saved: MasterSaved, generation: int, settings: Keys, now: int) -> str:
    """What somebody has to do about the master in use, if it is time; else nothing."""
    if unsaved_for(saved, now) <= settings.saved_within * DAY:
        return ""
    had = "none" if saved.generation is None else f"{saved.generation}, which opens nothing any more"
    return (
        f"Nobody has said that generation {generation} of the master is saved (the last one: {had}): without it a lost "
        "disk takes all backups with it; save it, then: cleanmail keys saved."
    )
