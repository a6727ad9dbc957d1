#!/usr/bin/env python3
"""Provisions a tenant with its accounts from a CSV file; safe to run twice, and while the server runs.

    scripts/provision_csv.py --data DIR --tenant SLUG [--name NAME] [--verified] ACCOUNTS.csv

The file's first line names its columns: `address` is needed; `name`, `quota` (5G, unlimited) and `password` may be
there. Tenant, domains and accounts that exist stay as they are; those that are missing are made. An account without a
password in the file gets a generated one. What was made is printed as CSV (address, result, password), the generated
passwords this once; a line that cannot be carried out is told with its number, and the others are carried out.

It shows how to build on `hosting.composition`: the same stores and checks as the command line, in one process.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from hosting import composition
from hosting.administration import Administration
from hosting.cli import quantities, secrets_input
from hosting.config import FILE_NAME, Config, load
from storage.directory.rows import TenantRow
from storage.errors import AlreadyExists, CleanmailError, InvalidInput, NotFound
from storage.values import Domain, EmailAddress

COLUMNS = {"address", "name", "quota", "password"}


def tenant_of(administration: Administration, slug: str, name: str) -> TenantRow:
    try:
        return administration.control.tenant_by_slug(slug)
    except NotFound:
        return administration.provisioning.create_tenant(slug, name or slug)


def own_domain(administration: Administration, tenant: TenantRow, domain: Domain, *, verified: bool) -> None:
    """The domain is the tenant's when this returns. Raises AlreadyExists if it is another's."""
    try:
        row = administration.control.domain(domain)
    except NotFound:
        row = administration.control.add_domain(tenant.tenant_id, domain)
    if row.tenant_id != tenant.tenant_id:
        raise AlreadyExists(f"The domain {domain} belongs to another tenant.")
    if verified:
        administration.control.verify_domain(domain, None)


def provision(
    administration: Administration, config: Config, tenant: TenantRow, line: dict[str, str], *, verified: bool
) -> tuple[str, str]:
    """What became of one account, and its password if it was generated."""
    address = EmailAddress.parse(line["address"])
    try:
        administration.installation.tenant(tenant.tenant_id).account_by_address(address)
    except NotFound:
        own_domain(administration, tenant, address.domain, verified=verified)
        given = line.get("password") or ""
        password = given or secrets_input.generate()
        administration.provisioning.create_account(
            tenant.tenant_id,
            address,
            name=line.get("name") or "",
            password_hash=composition.passwords_of(config).hash(password),
            quota_bytes=quantities.size(line.get("quota") or "unlimited"),
        )
        return "created", "" if given else password
    return "exists", ""


def run(data: Path, slug: str, name: str, source: Iterable[str], target: TextIO, *, verified: bool) -> int:
    """The number of lines that failed."""
    reader = csv.DictReader(source)
    columns = set(reader.fieldnames or ())
    if "address" not in columns or not columns <= COLUMNS:
        raise InvalidInput(f"The first line names the columns: address, and any of {', '.join(sorted(COLUMNS))}.")
    config = load(data / FILE_NAME)
    failed = 0
    writer = csv.writer(target)
    writer.writerow(["address", "result", "password"])
    with composition.administration(data, config) as administration:
        tenant = tenant_of(administration, slug, name)
        for line in reader:
            try:
                result, password = provision(administration, config, tenant, line, verified=verified)
            except CleanmailError as error:
                failed += 1
                print(f"line {reader.line_num}: {error.public}", file=sys.stderr)
                result, password = "failed", ""
            writer.writerow([line["address"], result, password])
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data directory of the installation")
    parser.add_argument("--tenant", required=True, help="short name; the tenant is made if it is not there")
    parser.add_argument("--name", default="", help="name of a new tenant for people")
    parser.add_argument("--verified", action="store_true", help="you vouch for the domains: no TXT record is needed")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    try:
        with given.file.open(encoding="utf-8-sig", newline="") as source:
            failed = run(given.data, given.tenant, given.name, source, sys.stdout, verified=given.verified)
    except OSError as error:
        print(f"{given.file}: {error.strerror}", file=sys.stderr)
        return 1
    except CleanmailError as error:
        print(error.public, file=sys.stderr)
        return 3 if error.temporary else 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
