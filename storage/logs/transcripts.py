"""Raw SMTP transcripts: for each connection who spoke with whom, when, and every command and reply. No content.

They are kept for 12 months so that sender, recipient and time can be reconstructed, and are read by log auditors only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    IN = "in"  # the peer connected to us
    OUT = "out"  # we connected


@dataclass(frozen=True, slots=True)
class TranscriptRecord:
    """`text` has a line for each thing said: seconds since `time`, "<" (theirs), ">" (ours) or "*" (a note), words."""

    time: int  # Unix seconds, when the connection began
    direction: Direction
    id: str
    peer: str = field(repr=False)  # IP address, for outgoing ones also the host's name
    queue_ids: tuple[str, ...]
    tenants: tuple[int, ...]
    text: str = field(repr=False)
