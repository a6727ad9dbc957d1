"""cleanmail domain: which tenant a mail domain belongs to, and the proof of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.cli import invocation
from hosting.cli.output import moment
from hosting.cli.recording import record
from storage.directory.ownership import DnsTxt
from storage.directory.rows import DomainRow, DomainState
from storage.values import Domain

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Mail domains: add, verify, list.")

Name = Annotated[str, typer.Argument(help="The domain, e.g. example.org.")]


@app.command()
def add(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Short name of the tenant.")],
    domain: Name,
    verified: Annotated[bool, typer.Option("--verified", help="You vouch for it: no TXT record is needed.")] = False,
) -> None:
    """Give a domain to a tenant; it is pending, without mail, until it is verified."""
    run = invocation.of(context)
    with run.administration() as administration:
        owner = invocation.find_tenant(administration, tenant)
        record(run, administration, "domain.add", owner, {"domain": domain})
        row = administration.control.add_domain(owner.tenant_id, Domain.parse(domain))
        if verified:
            row = administration.control.verify_domain(row.domain, None)
        run.output.done(_sentence(row), _values(row, owner.slug))


@app.command()
def verify(
    context: typer.Context,
    domain: Name,
    verified: Annotated[bool, typer.Option("--verified", help="You vouch for it: no TXT record is needed.")] = False,
) -> None:
    """Look for the domain's TXT record, and take it into service if it is there."""
    run = invocation.of(context)
    with run.administration() as administration:
        dns = run.config.dns
        proof = None if verified else DnsTxt(dns.nameservers, port=dns.port, timeout=dns.timeout)
        if verified:
            found = administration.control.domain(Domain.parse(domain))
            owner = administration.control.tenant(found.tenant_id)
            record(run, administration, "domain.verify", owner, {"domain": domain})
        row = administration.control.verify_domain(Domain.parse(domain), proof)
        owner = administration.control.tenant(row.tenant_id)
        run.output.done(_sentence(row), _values(row, owner.slug))


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="Short name of a tenant; all tenants if not given.")] = None,
) -> None:
    """List domains, with the TXT record that a pending one waits for."""
    run = invocation.of(context)
    with run.administration() as administration:
        owner = invocation.find_tenant(administration, tenant) if tenant else None
        slugs = {row.tenant_id: row.slug for row in administration.control.tenants()}
        domains = administration.control.domains(owner.tenant_id if owner else None)
        rows = [_values(row, slugs[row.tenant_id]) for row in domains]
    columns = {"domain": "domain", "tenant": "tenant", "state": "state", "record": "waits for TXT record"}
    run.output.rows(columns, rows, "There is no domain yet; add one with: cleanmail domain add TENANT DOMAIN.")


def _values(row: DomainRow, slug: str) -> dict[str, Any]:
    return {
        "domain": str(row.domain),
        "tenant": slug,
        "state": row.state,
        "record": f'{row.record_name} "{row.token}"' if row.state is DomainState.PENDING else None,
        "created": moment(row.created),
        "verified": moment(row.verified),
    }


def _sentence(row: DomainRow) -> str:
    if row.state is DomainState.VERIFIED:
        return f"The domain {row.domain} is verified: its mail is taken and sent."
    return (
        f'The domain {row.domain} is pending. Publish the TXT record\n  {row.record_name}  "{row.token}"\n'
        f"and then run: cleanmail domain verify {row.domain}"
    )
