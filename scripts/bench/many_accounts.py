#!/usr/bin/env python3
"""Makes many accounts of the demo tenant, each with an app password, while its server runs; run by `peers`.

    many_accounts.py --data DIR --count N --table FILE [--main-passwords N --password PASSWORD]

Accounts that exist stay. `table` gets a line `address TAB app password` for each as soon as it is made, so that the
same again goes on where it was interrupted. They have no other password, since argon2 for each would take half an
hour, but for the first of them with --main-passwords: those share a verifier, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hosting import composition
from hosting.administration import Administration
from hosting.config import FILE_NAME, load
from storage.errors import NotFound
from storage.values import EmailAddress, TenantId

TENANT, DOMAIN = "example", "example.test"
AT_ONCE = 12  # they wait for the disk, and for the auth role, most of the time


def make(administration: Administration, tenant_id: TenantId, address: EmailAddress) -> str:
    """The account if it is missing; a new app password of it."""
    tenant = administration.installation.tenant(tenant_id)
    try:
        account = tenant.account_by_address(address)
    except NotFound:
        account = administration.provisioning.create_account(tenant_id, address)
    return tenant.app_passwords.create(account.account_id, "benchmark")[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--main-passwords", type=int, default=0)
    parser.add_argument("--password", default="")
    given = parser.parse_args()
    known = {line.partition("\t")[0] for line in given.table.read_text().splitlines()} if given.table.exists() else ()
    wanted = [EmailAddress.parse(f"u{number}@{DOMAIN}") for number in range(1, given.count + 1)]
    missing = [address for address in wanted if str(address) not in known]
    started = time.monotonic()
    config = load(given.data / FILE_NAME)
    with (
        composition.administration(given.data, config) as administration,
        given.table.open("a", buffering=1) as table,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        tenant_id = administration.control.tenant_by_slug(TENANT).tenant_id
        made = threads.map(lambda address: make(administration, tenant_id, address), missing)
        for done, (address, password) in enumerate(zip(missing, made, strict=True), 1):
            table.write(f"{address}\t{password}\n")
            if done % 500 == 0:
                print(f"  {done} accounts, {done / (time.monotonic() - started):.0f} a second", file=sys.stderr)
        if given.main_passwords:
            verifier = composition.passwords_of(config).hash(given.password)
            tenant = administration.installation.tenant(tenant_id)
            for address in wanted[: given.main_passwords]:
                account = tenant.account_by_address(address)
                administration.provisioning.set_password(tenant_id, account.account_id, verifier)


if __name__ == "__main__":
    main()
