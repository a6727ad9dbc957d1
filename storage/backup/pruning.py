"""Removes the backups of a folder that have had their time, and no others.

Only what this installation signed is its to remove. A backup whose manifest cannot be read any more goes by the row
that was written when it was made: what was erased since must not live on in it because it is damaged.

Raises: Conflict (somebody is at work there), NotFound, Unavailable, and what `check` raises.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.backup.place import Place
from storage.directory.backups import BackupRow
from storage.installation import Installation
from storage.register.values import Kept

_DAY = 86_400


def prune(installation: Installation, place: Place, *, check: Callable[[], object] | None = None) -> list[str]:
    """Names of those that went. `check` raises if the clock is wrong."""
    backups, now, most = installation.control.backups, installation.clock.now(), _most(installation)
    with place.alone():
        place.tidy()
        mine = place.all(installation.keys.verifying_key("manifest"))
        going = {stored.name: stored.manifest.id for stored in place.expired(mine, now, most)}
        readable, here = {stored.name for stored in place.all()}, str(place.folder.resolve())
        for row in backups.all():
            damaged = row.name not in readable and (place.folder / row.name).is_dir()
            if row.place == here and damaged and _is_over(row, now, most):
                going[row.name] = row.backup_id
        if going and check is not None:
            check()
        for name, backup_id in sorted(going.items()):
            place.remove(name)
            backups.removed(backup_id)
    return sorted(going)


def due(installation: Installation) -> set[str]:
    """The folders in which there are backups whose time is over."""
    now, most = installation.clock.now(), _most(installation)
    return {row.place for row in installation.control.backups.all() if _is_over(row, now, most)}


def _is_over(row: BackupRow, now: int, most: int) -> bool:
    return (row.expires is not None and row.expires <= now) or row.made + most * _DAY <= now


def _most(installation: Installation) -> int:
    """Days, in force today: it may have been more when a backup was made."""
    most = installation.periods.of(Kept.BACKUPS).floor_days
    assert most is not None
    return most
