"""cleanmail route: domains whose mail goes to the tenant's own server, all of it or what nobody has here.

A change counts from the next recipient on, for what waits in the queue too. It is an audit record.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any

import typer

from gateway.dns.answers import Answer
from hosting.administration import Administration
from hosting.cli import invocation, resolving
from hosting.cli.invocation import Invocation
from hosting.outgoing import own_ports, reachable
from storage.directory.routes import Mode, Route, RouteTls, check
from storage.directory.rows import DomainRow, State, TenantRow
from storage.directory.terms import Feature
from storage.errors import InvalidInput
from storage.values import Domain

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Domains with a mail server of their own: set, show, list, remove.",
)

Name = Annotated[str, typer.Argument(help="The domain, e.g. example.org.")]


@app.command("set")
def set_(
    context: typer.Context,
    domain: Name,
    server: Annotated[str, typer.Option(help="HOST, HOST:PORT or [IPV6]:PORT; the port is 25 if not given.")],
    tls: Annotated[RouteTls, typer.Option(help="What the connection must have.")] = RouteTls.OPPORTUNISTIC,
    split: Annotated[
        bool, typer.Option("--split", help="Accounts and aliases that are here keep their mail here.")
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Take mail for every address, without asking the server for it.")
    ] = False,
) -> None:
    """Send the mail of a domain to the tenant's own server."""
    run = invocation.of(context)
    host, port = _place(server)
    route = Route(Domain.parse(domain), Mode.SPLIT if split else Mode.SERVER, host, port, tls, verify=not no_verify)
    check(route)
    notes = _look(run, route)
    with run.administration() as administration:
        row = administration.control.domain(route.domain)
        administration.control.contracts.check_feature(row.tenant_id, Feature.ROUTES)
        tenant = administration.installation.tenant(row.tenant_id)
        _audit(run, administration, row, "set", _values(route))
        tenant.routes.set(route)
        here = [account for account in tenant.accounts() if account.login.domain == route.domain]
        if here and not split:
            notes.append(
                f"{len(here)} account(s) of {route.domain} get no new mail while the route stands; --split lets them."
            )
        for note in notes:
            run.output.note(note)
        run.output.done(_sentence(route), _values(route))


@app.command()
def show(context: typer.Context, domain: Name) -> None:
    """Show where the mail of a domain goes."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = administration.control.domain(Domain.parse(domain))
        route = administration.installation.tenant(row.tenant_id).routes.find(row.domain)
        run.output.record(_values(route or Route(row.domain, Mode.HERE)))


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="Short name of a tenant; all tenants if not given.")] = None,
) -> None:
    """List the routes."""
    run = invocation.of(context)
    with run.administration() as administration:
        tenants = invocation.living_tenants(administration, tenant)
        rows = [
            {**_values(route), "tenant": owner.slug} for owner in tenants for route in _routes(administration, owner)
        ]
    columns = {
        "domain": "domain",
        "mode": "mode",
        "server": "server",
        "tls": "TLS",
        "verify": "asked",
        "tenant": "tenant",
    }
    run.output.rows(columns, rows, "There is no route: all domains have their mailboxes here.")


@app.command()
def remove(context: typer.Context, domain: Name) -> None:
    """Let the domain's mailboxes be here again."""
    run = invocation.of(context)
    with run.administration() as administration:
        row = administration.control.domain(Domain.parse(domain))
        routes = administration.installation.tenant(row.tenant_id).routes
        _audit(run, administration, row, "remove", {"domain": str(row.domain)})
        routes.remove(row.domain)
        run.output.done(f"The mailboxes of {row.domain} are here again.", {"domain": str(row.domain)})


def _routes(administration: Administration, owner: TenantRow) -> list[Route]:
    if owner.state is State.ENDED:
        return []
    return administration.installation.tenant(owner.tenant_id).routes.all()


def _place(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT, an IP address, [IPV6] or [IPV6]:PORT."""
    host, port = text, ""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise InvalidInput(f"'{text[:80]}' is no server; write [IPV6]:PORT.")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not port.isdecimal():
        raise InvalidInput(f"'{port[:20]}' is no port.")
    return host, int(port or 25)


def _look(run: Invocation, route: Route) -> list[str]:
    """What is worth saying of the server. Raises InvalidInput if it is this one: mail would go round in circles."""
    config = run.config
    names = {config.server.name.lower(), *(name.lower() for name in config.mail.exchangers)}
    ports = own_ports(config)
    if route.host.lower().rstrip(".") in names and route.port in ports:
        raise _leads_here(route)
    rules = reachable(config)
    addresses = _addresses(run, route.host)
    if any(rules.is_ourselves(address, route.port) for address in addresses):
        raise _leads_here(route)
    if not addresses:
        return [f"{route.host} has no address that DNS knows of now; until it has, its mail waits."]
    if not any(rules.permits(address) for address in addresses):
        return [f"{route.host} has no public address; until [relay] private_networks names its network, mail waits."]
    return []


def _leads_here(route: Route) -> InvalidInput:
    return InvalidInput(f"{route.host}:{route.port} is this server itself: mail would go round in circles.")


def _addresses(run: Invocation, host: str) -> tuple[str, ...]:
    try:
        return (str(ip_address(host)),)
    except ValueError:
        answer: Answer[str] = resolving.ask(run.config, lambda resolver: resolver.addresses(host))
        return answer.records


def _audit(run: Invocation, administration: Administration, row: DomainRow, what: str, values: dict[str, Any]) -> None:
    details = {key: str(value) for key, value in values.items()}
    administration.installation.audit.append(f"route.{what}", run.operator, row.tenant_id, details=details)


def _values(route: Route) -> dict[str, Any]:
    out = route.leads_out
    return {
        "domain": str(route.domain),
        "mode": route.mode,
        "server": (f"[{route.host}]" if ":" in route.host else route.host) + f":{route.port}" if out else None,
        "tls": route.tls if out else None,
        "verify": route.verify if out else None,
    }


def _sentence(route: Route) -> str:
    what = "what nobody has here" if route.mode is Mode.SPLIT else "all mail"
    asked = "which is asked for each recipient" if route.verify else "which is not asked for recipients"
    return f"Of {route.domain} {what} goes to {route.host}:{route.port} ({route.tls} TLS), {asked}."
