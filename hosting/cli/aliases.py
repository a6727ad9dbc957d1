"""cleanmail alias: further addresses, and catch-alls, written @example.org."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.recording import record, record_all
from storage.directory.rows import AliasRow, TenantRow
from storage.values import Domain, EmailAddress

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Further addresses and catch-alls: add, remove, list."
)

Address = Annotated[str, typer.Argument(help="The alias, or @example.org for all addresses that nobody has.")]


@app.command()
def add(
    context: typer.Context,
    address: Address,
    targets: Annotated[list[str], typer.Argument(help="Where its mail goes: one or more addresses.")],
) -> None:
    """Let mail to an address go to others; an alias that would lead back to itself is refused."""
    run = invocation.of(context)
    parsed = [EmailAddress.parse(target) for target in targets]
    with run.administration() as administration:
        owner = _owner(administration, address)
        record(run, administration, "alias.add", owner)
        if address.startswith("@"):
            administration.provisioning.set_catch_all(owner.tenant_id, Domain.parse(address[1:]), parsed)
        else:
            administration.provisioning.add_alias(owner.tenant_id, EmailAddress.parse(address), parsed)
        names = [str(target) for target in parsed]
        run.output.done(f"Mail to {address} goes to {', '.join(names)}.", {"alias": address, "targets": names})


@app.command()
def remove(context: typer.Context, address: Address) -> None:
    """Take an alias or a catch-all away."""
    run = invocation.of(context)
    with run.administration() as administration:
        owner = _owner(administration, address)
        record(run, administration, "alias.remove", owner)
        if address.startswith("@"):
            administration.provisioning.remove_catch_all(owner.tenant_id, Domain.parse(address[1:]))
        else:
            administration.provisioning.remove_alias(owner.tenant_id, EmailAddress.parse(address))
        run.output.done(f"The alias {address} was removed.", {"alias": address})


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="Short name of a tenant; all tenants if not given.")] = None,
) -> None:
    """List aliases and catch-alls."""
    run = invocation.of(context)
    with run.administration() as administration:
        tenants = invocation.living_tenants(administration, tenant)
        record_all(run, administration, "alias.list", [(owner.tenant_id, None) for owner in tenants])
        rows = [row for owner in tenants for row in _rows(administration, owner)]
    columns = {"alias": "alias", "targets": "goes to", "tenant": "tenant"}
    run.output.rows(columns, rows, "There is no alias.")


def _rows(administration: Administration, owner: TenantRow) -> list[dict[str, Any]]:
    tenant = administration.installation.tenant(owner.tenant_id)
    logins = {row.account_id: str(row.login) for row in tenant.accounts()}

    def targets(row: AliasRow) -> list[str]:
        return [*(logins[account] for account in row.accounts if account in logins), *map(str, row.addresses)]

    return [
        {"alias": row.address, "targets": targets(row), "tenant": owner.slug, "catch_all": row.catch_all}
        for row in tenant.addresses.aliases()
    ]


def _owner(administration: Administration, address: str) -> TenantRow:
    domain = Domain.parse(address[1:]) if address.startswith("@") else EmailAddress.parse(address).domain
    return administration.control.tenant(administration.control.domain(domain).tenant_id)
