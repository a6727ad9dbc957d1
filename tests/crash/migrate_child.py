"""The fork server of test_crash_migrate: moves an account in, or looks, and dies at the step it is told."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crash_child import Steps, say, serve
from crash_town import opened

from hosting.migration import arrivals
from hosting.migration.account import migrate
from hosting.migration.run import Orders
from hosting.migration.source import Login, Source
from storage.directory.provisioning import Provisioning
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.values import AccountId, EmailAddress, TenantId

TENANT = TenantId(1)


def bring(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    source = Source("127.0.0.1", request["port"], tls=False)
    login = Login("ada", lambda: "secret")
    orders = Orders(delete_gone=request["delete"])
    with installation.account(TENANT, AccountId(request["account"])) as account:
        report = migrate(account, source, login, orders, run=installation.data / "run", wait=lambda _: None)
    return {name: report.total(name) for name in ("there", "here", "missing", "pulled", "present")} | {
        "complete": report.is_complete
    }


def make(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    address = EmailAddress.parse(f"u{request['number']}@one.test")
    return {"account": int(Provisioning(installation).create_account(TENANT, address).account_id)}


def look(installation: Installation, request: dict[str, Any]) -> dict[str, Any]:
    """Each mailbox: hash and flags of its messages; and how many files there are."""
    with installation.account(TENANT, AccountId(request["account"])) as account:
        found: dict[str, Any] = {}
        for mailbox in account.mailboxes.list():
            rows = account.messages.fetch_rows(mailbox.id, 1, 1 << 32, ("uid", "message_id", "flags", "internal_date"))
            found[mailbox.name] = sorted(
                [hashlib.sha256(account.messages.read_message(row[1])).hexdigest(), row[2], row[3]] for row in rows
            )
    return {"mailboxes": {name: held for name, held in found.items() if held}}


OPERATIONS: dict[str, Callable[[Installation, dict[str, Any]], dict[str, Any]]] = {
    "migrate": bring, "make": make, "look": look,
}  # fmt: skip


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    arrivals._BATCH_MESSAGES = 2  # more batches, more steps between them
    with opened(data) as installation:
        if "account" in request:
            with installation.account(TENANT, AccountId(request["account"])):
                pass  # that it is opened is no step of a move
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
