"""Which backup somebody means, by a folder and a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hosting.cli.invocation import Invocation
from storage.backup.place import Stored, place_and_time
from storage.errors import InvalidInput

# How a time may be written, and how many seconds what is written lasts.
_TIMES = {"%Y-%m-%d": 86_399, "%Y-%m-%d %H:%M": 59, "%Y-%m-%dT%H:%M:%SZ": 0, "%Y%m%dT%H%M%SZ": 0}

INCOMPLETE = 6  # exit status: something was left out, or is wrong with a backup


def source_of(run: Invocation, source: Path | None) -> Path:
    if source is None:
        if not run.config.backup.directory:
            raise InvalidInput("Say where the backups are; the configuration has no [backup] directory.")
        return run.data / run.config.backup.directory
    return source.absolute()


def find(run: Invocation, public: bytes, source: Path | None, at: str) -> Stored:
    place, time = place_and_time(source_of(run, source), time_of(at))
    return place.at(time, public)


def time_of(text: str) -> int | None:
    """A time in UTC, of a day its end."""
    if not text:
        return None
    for form, length in _TIMES.items():
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) + length
        except ValueError:
            continue
    raise InvalidInput(f"'{text[:40]}' is no time; write 2026-05-01, or '2026-05-01 12:00' (UTC).")
