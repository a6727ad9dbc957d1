"""cleanmail tenant: the customers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from gateway.acceptance.targets import Suspended
from gateway.mx.recipients import SUSPENDED_SETTING
from hosting.administration import Administration
from hosting.cli import endings, invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.cli.recording import record
from storage.directory.approvals import Kind, scope_of
from storage.directory.resolve import POSTMASTER_SETTING
from storage.directory.rows import State, TenantRow
from storage.ending.orders import check_thorough, order_tenant
from storage.errors import Conflict
from storage.sending import Sending
from storage.values import EmailAddress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Customers: create, list, show, suspend, resume, end, mail, sending.",
)

Slug = Annotated[str, typer.Argument(help="Short name of the tenant, or its number.")]


def _limit(sentence: str) -> Any:
    return typer.Option(min=0, show_default=False, help=sentence)


Postmaster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", show_default=False, help="Who gets postmaster@ and abuse@ of the tenant's domains."
    ),
]
SuspendedMail = Annotated[
    Suspended | None,
    typer.Option(show_default=False, help="Whether mail for suspended accounts is taken, or waits at its senders."),
]


@app.command()
def create(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(help="Short name: a-z, 0-9 and hyphens.")],
    name: Annotated[str, typer.Option(help="Name for people; the short name if not given.")] = "",
) -> None:
    """Make a tenant, with a key and a database of its own."""
    run = invocation.of(context)
    with run.administration() as administration:
        record(run, administration, "tenant.create")
        row = administration.provisioning.create_tenant(slug, name or slug)
        run.output.done(f"Tenant '{row.slug}' was created (number {row.tenant_id}).", _values(row))


@app.command("list")
def list_(context: typer.Context) -> None:
    """List all tenants."""
    run = invocation.of(context)
    with run.administration() as administration:
        rows = [_summary(administration, row) for row in administration.control.tenants()]
    columns = {
        "number": "number",
        "slug": "tenant",
        "name": "name",
        "state": "state",
        "domains": "domains",
        "accounts": "accounts",
    }
    run.output.rows(columns, rows, "There is no tenant yet; make one with: cleanmail tenant create NAME.")


@app.command()
def show(context: typer.Context, slug: Slug) -> None:
    """Show a tenant with its domains."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = invocation.find_tenant(administration, slug)
        domains = administration.control.domains(row.tenant_id)
        run.output.record(
            {
                **_summary(administration, row),
                "domains": [f"{d.domain}{'' if d.verified else ' (pending)'}" for d in domains],
            }
        )


@app.command()
def suspend(context: typer.Context, slug: Slug) -> None:
    """Let nobody of the tenant sign in; open sessions end. What becomes of arriving mail says: tenant mail."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = invocation.find_tenant(administration, slug)
        record(run, administration, "tenant.suspend", found)
        row = administration.provisioning.suspend_tenant(found.tenant_id)
        run.output.done(f"Tenant '{row.slug}' is suspended.", _values(row))


@app.command()
def resume(context: typer.Context, slug: Slug) -> None:
    """End a suspension."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = invocation.find_tenant(administration, slug)
        record(run, administration, "tenant.resume", found)
        row = administration.provisioning.resume_tenant(found.tenant_id)
        run.output.done(f"Tenant '{row.slug}' is active.", _values(row))


@app.command()
def end(
    context: typer.Context,
    slug: Slug,
    reason: endings.Reason = "",
    yes: endings.Yes = False,
    wait: endings.Wait = True,
    thorough: endings.Thorough = False,
) -> None:
    """End the contract for good: all that its users stored is erased, and a certificate says so. There is no way back.

    A contract that runs on needs a second person first: cleanmail request ask early_erasure --tenant SLUG.
    Where nothing was agreed (cleanmail contract set), one operator ends it, also while the clock is not believed.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        row = invocation.find_tenant(administration, slug)
        if row.state is State.ENDED:
            known = administration.control.endings.of(row.tenant_id)
            if known is None:
                raise Conflict(f"The contract of tenant {row.tenant_id} has ended already.")
            check_thorough(known, thorough=thorough)
            ending_id = known.ending_id
        else:
            administration.control.holds.check(row.tenant_id)  # before anything is asked
            endings.confirm(f"All data of the tenant '{row.slug}' will be erased.", row.slug, yes=yes)
            _use_approval(run, administration, row, reason)
            ending_id = order_tenant(
                administration.installation, row.tenant_id, run.operator, reason, thorough=thorough
            )
        endings.finish(
            run, administration, ending_id, wait=wait, sentence=f"The contract of '{row.slug}' has ended, all is erased"
        )


def _runs_on(administration: Administration, row: TenantRow) -> bool:
    """Whether something was agreed that is not over."""
    control = administration.control
    return control.contracts.agreed(row.tenant_id) and not control.contracts.of(row.tenant_id).is_due(
        administration.installation.clock.now()
    )


def _use_approval(run: Invocation, administration: Administration, row: TenantRow, reason: str) -> None:
    """Raises NotPermitted, saying how to ask for it, where a second person is needed and has not approved."""
    if _runs_on(administration, row):
        options = ("--tenant", row.slug, *(("--reason", reason) if reason else ()))
        administration.control.approvals.use(Kind.EARLY_ERASURE, scope_of(row.tenant_id), run.operator, options)


@app.command()
def mail(
    context: typer.Context,
    slug: Slug,
    postmaster: Postmaster = None,
    suspended: SuspendedMail = None,
    reset: Annotated[bool, typer.Option("--reset", help="Let the installation's values count again.")] = False,
) -> None:
    """Show or set who reads what comes for postmaster, and what becomes of mail during a suspension.

    Where nothing is set, [mail] postmaster and [mx] suspended of the configuration count.
    """
    run = invocation.of(context)
    given = {
        POSTMASTER_SETTING: None if postmaster is None else str(EmailAddress.parse(postmaster)),
        SUSPENDED_SETTING: None if suspended is None else suspended.value,
    }
    changes = {name: value for name, value in given.items() if reset or value is not None}
    with run.administration() as administration:
        tenant_id = invocation.find_tenant(administration, slug).tenant_id
        tenant = administration.installation.tenant(tenant_id)
        if changes:
            details = {name: "default" if value is None else value for name, value in changes.items()}
            administration.installation.audit.append("tenant.mail", run.operator, tenant_id, None, details)
        for name, value in changes.items():
            tenant.set_setting(name, value)
        run.output.record(
            {
                "postmaster": tenant.setting(POSTMASTER_SETTING) or run.config.mail.postmaster or "the first account",
                "suspended_mail": tenant.setting(SUSPENDED_SETTING) or run.config.mx.suspended,
            }
        )


@app.command()
def sending(
    context: typer.Context,
    slug: Slug,
    account_per_hour: Annotated[int | None, _limit("Recipients of an account; 0: no limit.")] = None,
    account_per_day: Annotated[int | None, _limit("Recipients of an account; 0: no limit.")] = None,
    tenant_per_hour: Annotated[int | None, _limit("Recipients of all accounts; 0: no limit.")] = None,
    tenant_per_day: Annotated[int | None, _limit("Recipients of all accounts; 0: no limit.")] = None,
    freeze_above: Annotated[int | None, _limit("Recipients in an hour that freeze an account; 0: never.")] = None,
    freeze_factor: Annotated[int | None, _limit("But only if so many times its busiest hour of the week.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Let the installation's values count again.")] = False,
) -> None:
    """Show or set what the tenant's accounts may send to addresses elsewhere; see [sending] of the configuration."""
    run = invocation.of(context)
    given = {
        "account_per_hour": account_per_hour,
        "account_per_day": account_per_day,
        "tenant_per_hour": tenant_per_hour,
        "tenant_per_day": tenant_per_day,
        "freeze_above": freeze_above,
        "freeze_factor": freeze_factor,
    }
    changes = {name: value for name, value in given.items() if reset or value is not None}
    with run.administration() as administration:
        tenant_id = invocation.find_tenant(administration, slug).tenant_id
        limits = Sending(administration.installation, run.config.sending)
        if changes:
            details = {name: "default" if value is None else str(value) for name, value in changes.items()}
            administration.installation.audit.append("tenant.sending", run.operator, tenant_id, None, details)
        for name, value in changes.items():
            limits.set_limit(tenant_id, name, value)
        run.output.record(asdict(limits.limits(tenant_id)))


def _values(row: TenantRow) -> dict[str, Any]:
    return {
        "number": int(row.tenant_id),
        "slug": row.slug,
        "name": row.name,
        "state": row.state,
        "created": moment(row.created),
    }


def _summary(administration: Administration, row: TenantRow) -> dict[str, Any]:
    ended = row.state is State.ENDED
    return {
        **_values(row),
        "domains": len(administration.control.domains(row.tenant_id)),
        "accounts": 0 if ended else len(administration.installation.tenant(row.tenant_id).accounts()),
    }
