"""The fork server of test_crash_export: exports, imports, or looks, and dies at the step it is told."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
from crash_town import opened
from entries_place import held
from export_place import view

from storage.directory.provisioning import Provisioning
from storage.errors import CleanmailError
from storage.export import collection_restore, collections, mail, restore
from storage.export.account import export_account
from storage.export.restore import restore_archive
from storage.installation import Installation
from storage.values import AccountId, EmailAddress, TenantId

TENANT = TenantId(1)


def export(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    target = Path(request["to"])
    manifest = export_account(installation, TENANT, AccountId(1), target, request["form"], update=request["update"])
    return {"messages": manifest.messages}


def bring(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    restored = restore_archive(installation, TENANT, AccountId(request["account"]), Path(request["source"]))
    return {
        "imported": restored.imported,
        "present": restored.present,
        "objects": restored.objects,
        "objects_present": restored.objects_present,
    }


def make(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    address = EmailAddress.parse(f"u{request['number']}@one.test")
    return {"account": int(Provisioning(installation).create_account(TENANT, address).account_id)}


def look(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    """What the account holds, as a hash; and that no file is left that no row names."""
    with installation.account(TENANT, AccountId(request["account"])) as account:
        seen = view(account)
        kept = repr(sorted(held(account).items()))  # their order is that in which they were made
        messages = len({one.group for box in seen.values() if isinstance(box, tuple) for one in box[4]})
        cur = len(list(account.maildir.names("cur"))) + len(list(account.maildir.names("new")))
    shown = repr([(name, sorted(box) if isinstance(box, set) else _plain(box)) for name, box in sorted(seen.items())])
    return {"view": hashlib.sha256(shown.encode()).hexdigest(), "messages": messages, "files": cur,
            "held": hashlib.sha256(kept.encode()).hexdigest()}  # fmt: skip


def _plain(box: Any) -> Any:
    uses, keep, words, counted, held = box
    return (uses, keep, sorted(words), counted, [one._replace(keywords=frozenset(), group=one.group) for one in held])


OPERATIONS: dict[str, Callable[[Installation, dict[str, Any]], dict[str, Any]]] = {
    "export": export, "import": bring, "make": make, "look": look,
}  # fmt: skip


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    mail._BATCH_LINES, restore._BATCH_MESSAGES = 2, 2  # more batches, more steps between them
    collections._BATCH_LINES, collection_restore._BATCH = 20, 4
    with opened(data) as installation:
        steps.counting = True
        try:
            done = OPERATIONS[request["operation"]](installation, request)
        except CleanmailError as error:
            say({"refused": error.public})
        else:
            say({"done": done})
        steps.counting = False


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])), counted=False)
