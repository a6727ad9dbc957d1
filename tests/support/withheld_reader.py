"""Reads all that a quarantine holds, in a process of its own: `python withheld_reader.py DATA FOLDER`.

Each message, behind the fields that were put in front of it, becomes a file of the folder; prints a list of
{id, sender, prefix (its length), recipients: [[address, state]]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hosting import composition
from hosting.config import FILE_NAME, load
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query


def main(data: Path, folder: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = []
    with composition.administration(data, load(data / FILE_NAME)) as administration:
        quarantine = Quarantine(administration.installation)
        for tenant in administration.control.tenants():
            for message in quarantine.of(tenant.tenant_id).each(Query()):
                prefix, octets = quarantine.content(tenant.tenant_id, message)
                (folder / message.quarantine_id).write_bytes(prefix + octets)
                read.append(
                    {
                        "id": message.quarantine_id,
                        "sender": str(message.sender or ""),
                        "prefix": len(prefix),
                        "recipients": [[str(each.address), each.state.value] for each in message.recipients],
                    }
                )
    return read


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
