"""Makes an installation with its tenants, in one process: `python provision_town.py DATA < town.json`.

The town: {"tenants": {slug: {"domains": {name: verified}, "accounts": {address: options}, "aliases": {alias: of}}}}
with the options password, bytes and app_password (a name). Prints {address: {tenant, account, app_password}}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hosting import composition
from hosting.config import FILE_NAME, load
from storage.values import Domain, EmailAddress


def main(data: Path, town: dict[str, Any]) -> dict[str, Any]:
    config = load(data / FILE_NAME)
    composition.create(data, config)
    passwords = composition.passwords_of(config)
    made: dict[str, Any] = {}
    with composition.administration(data, config) as administration:
        provisioning, control = administration.provisioning, administration.control
        for slug, tenant in town["tenants"].items():
            tenant_id = provisioning.create_tenant(slug, slug.title()).tenant_id
            for name, verified in tenant["domains"].items():
                control.add_domain(tenant_id, Domain.parse(name))
                if verified:
                    control.verify_domain(Domain.parse(name), None)
            for address, options in tenant["accounts"].items():
                row = provisioning.create_account(
                    tenant_id,
                    EmailAddress.parse(address),
                    password_hash=passwords.hash(options["password"]),
                    quota_bytes=options.get("bytes", 0),
                )
                made[address] = {"tenant": tenant_id, "account": row.account_id}
                if "app_password" in options:
                    _, shown = provisioning.create_app_password(tenant_id, row.account_id, options["app_password"])
                    made[address]["app_password"] = shown
            for alias, targets in tenant.get("aliases", {}).items():
                parsed = [EmailAddress.parse(target) for target in targets]
                provisioning.add_alias(tenant_id, EmailAddress.parse(alias), parsed)
    return made


def run() -> None:
    os.umask(0o077)
    json.dump(main(Path(sys.argv[1]), json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    run()
