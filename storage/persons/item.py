"""One thing that is stored about a person, as a report tells it: named values, among them `record`, where it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Item = dict[str, Any]


def moment(time: int | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat()
