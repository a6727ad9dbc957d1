"""Plain counters of one worker; the metrics role reads them, nothing here knows how they are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    connections: int = 0  # open now
    accepted: int = 0
    refused: int = 0  # by a limit
    sign_ins: int = 0
    commands: int = 0
    failures: int = 0  # commands that ended in an unexpected error
    idle: int = 0  # sessions in IDLE now
