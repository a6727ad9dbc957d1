"""A reviewer's process that wants more than it may: `python reviewer_process.py DATA ID`.

Looks at the header of a message, then asks for every other key that there is and tries the one it has on the body.
Prints what came of it as JSON, and waits for its standard input to end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from hosting import composition
from hosting.auth.client import AuthClient
from hosting.auth.grants import Role
from hosting.auth.signin import SignIn
from hosting.review.looking import look
from hosting.review.values import purpose_of
from storage.errors import CleanmailError
from storage.files.format import read_all
from storage.keys.source import ServiceName
from storage.quarantine.files import BODY, find_name, folder_of
from storage.values import AccountId, TenantId


def main(data: Path, quarantine_id: str) -> None:
    client = AuthClient(composition.auth_socket(data), Role.REVIEWER)
    seen = look(client, data, quarantine_id, reason="ticket 5")
    tenant, account, purpose = TenantId(1), AccountId(1), purpose_of(seen.record)
    body = folder_of(data, tenant) / f"{find_name(folder_of(data, tenant), quarantine_id)}{BODY}"
    sign_in = SignIn("imap", "ann@acme.test", "x", "192.0.2.1", "s1")
    attempts: dict[str, Callable[[], object]] = {
        "tenant_key": lambda: client.tenant_key(tenant, purpose),
        "account_key": lambda: client.account_key(tenant, account, purpose),
        "auditor_key": lambda: client.auditor_key(purpose),
        "create_tenant_key": lambda: client.create_tenant_key(tenant),
        "create_account_key": lambda: client.create_account_key(tenant, account),
        "destroy_account_key": lambda: client.destroy_account_key(tenant, account),
        "verify": lambda: client.verify(sign_in),
        "header_key of another tenant": lambda: client.header_key(TenantId(2), purpose),
        "header_key without a view": lambda: client.header_key(tenant, purpose_of(seen.record + 1)),
        "body": lambda: read_all(str(body), client.header_key(tenant, purpose)),
    }
    for name in get_args(ServiceName):
        attempts[f"service_key {name}"] = lambda name=name: client.service_key(name)
    found = {name: _outcome(attempt) for name, attempt in attempts.items()}
    print(json.dumps({"attempts": found, "record": seen.record, "lines": seen.header.lines()}), flush=True)
    sys.stdin.read()
    client.close()
    assert seen


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except CleanmailError as error:
        return type(error).__name__
    return "given"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
