"""cleanmail filter policy, allow and deny: rules of the filter, and lists of senders, of tenants, domains and accounts.

The installation's own rules stand in its configuration, [filter.rules]. A change counts from the next message on, in
every process. It is an audit record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gateway.policy.rules import DEEPEST, NAMES, Rules, Scope, merged, parse_rule, text_of
from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.cli.recording import record_all
from storage.directory.tenant import Tenant
from storage.directory.terms import Feature
from storage.errors import InvalidInput, NotFound
from storage.filter.patterns import parse_pattern
from storage.filter.rules import WHOLE_TENANT, FilterRules, ListEntry, ListKind, RuleScope, of_account, of_domain
from storage.values import AccountId, Domain, TenantId

policy = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What becomes of mail: show, set, unset.")

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Of a tenant, by its short name.")]
DomainOption = Annotated[str | None, typer.Option("--domain", help="Of a mail domain.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Of an account, by its address.")]
RuleName = Annotated[str, typer.Argument(help="The rule, e.g. junk_at; `policy show` lists them.")]
Pattern = Annotated[
    str, typer.Argument(help="An address, @domain, @.domain (all below it), an IP address or a network.")
]


@dataclass(frozen=True, slots=True)
class Whose:
    """A scope, with the layers above it that count for it too."""

    scope: RuleScope
    level: Scope
    name: str  # for people
    tenant: Tenant
    account_id: AccountId | None = None
    domain: Domain | None = None

    @property
    def tenant_id(self) -> TenantId:
        return self.tenant.tenant_id

    @property
    def rules(self) -> FilterRules:
        return self.tenant.filter_rules

    @property
    def layers(self) -> list[dict[str, str]]:
        """The tenant's, the domain's, the account's, as far as they count here."""
        scopes = [WHOLE_TENANT]
        if self.domain is not None:
            scopes.append(of_domain(self.domain))
        if self.account_id is not None:
            scopes.append(of_account(self.account_id))
        return [self.rules.rules(scope) for scope in scopes]


@policy.command()
def show(
    context: typer.Context,
    tenant: TenantOption = None,
    domain: DomainOption = None,
    account: AccountOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the installation's.")] = False,
) -> None:
    """Show the rules that count, and who set them; the installation's, or for a tenant, a domain or an account."""
    run = invocation.of(context)
    installation = run.config.filter.rules
    if tenant is None and domain is None and account is None:
        _show(run, installation, [], changed)
        return
    with run.administration() as administration:
        layers = _whose(administration, tenant, domain, account).layers
    _show(run, installation, layers, changed)


@policy.command("set")
def set_(
    context: typer.Context,
    name: RuleName,
    value: Annotated[str, typer.Argument(help="Its value, e.g. 5, quarantine, on, never.")],
    tenant: TenantOption = None,
    domain: DomainOption = None,
    account: AccountOption = None,
) -> None:
    """Let another value count for a tenant, a domain or an account."""
    run = invocation.of(context)
    name = name.replace("-", "_")
    with run.administration() as administration:
        whose = _whose(administration, tenant, domain, account)
        text = text_of(parse_rule(name, value, whose.level))
        administration.control.contracts.check_feature(whose.tenant_id, Feature.FILTER)
        details = {"of": whose.name, "rule": name, "value": text}
        _audit(run, administration, whose, "policy-set", details)
        whose.rules.set_rule(whose.scope, name, text)
        run.output.done(f"The rule {name} of {whose.name} is {text}.", details)


@policy.command()
def unset(
    context: typer.Context,
    name: RuleName,
    tenant: TenantOption = None,
    domain: DomainOption = None,
    account: AccountOption = None,
) -> None:
    """Let the value count again that is set above: the domain's, the tenant's, the installation's."""
    run = invocation.of(context)
    name = name.replace("-", "_")
    with run.administration() as administration:
        whose = _whose(administration, tenant, domain, account)
        if name not in whose.rules.rules(whose.scope):  # also one that an older version knew can go
            if name not in NAMES:
                parse_rule(name, "")
            raise InvalidInput(f"The rule {name} is not set for {whose.name}.")
        _audit(run, administration, whose, "policy-unset", {"of": whose.name, "rule": name})
        whose.rules.set_rule(whose.scope, name, None)
        value = getattr(merged(run.config.filter.rules, [tuple(layer.items()) for layer in whose.layers]), name, "")
        values = {"of": whose.name, "rule": name, "value": text_of(value)}
        run.output.done(f"The rule {name} of {whose.name} is {values['value']} again.", values)


def _show(run: Invocation, installation: Rules, layers: list[dict[str, str]], changed: bool) -> None:
    rules = merged(installation, [tuple(layer.items()) for layer in layers])
    names = ("tenant", "domain", "account")
    rows = []
    for name in NAMES:
        sources = [level for level, layer in zip(names, layers, strict=False) if _counts(name, layer, level)]
        source = sources[-1] if sources else "installation"
        if not changed or sources:
            row = {"rule": name, "value": text_of(getattr(rules, name)), "set_by": source}
            rows.append({**row, "may_be_set_by": _LEVELS[DEEPEST[name]]})
    run.output.rows(
        {"rule": "rule", "value": "value", "set_by": "set by", "may_be_set_by": "may be set down to"},
        rows,
        "All rules are the installation's.",
    )
    for level, layer in zip(names, layers, strict=False):
        for name in layer:
            if not _counts(name, layer, level):
                run.output.note(f"The {level}'s value of {name} means nothing to this version and does not count.")


_LEVELS = {Scope.INSTALLATION: "installation", Scope.TENANT: "tenant", Scope.DOMAIN: "domain", Scope.ACCOUNT: "account"}


def _counts(name: str, layer: dict[str, str], level: str) -> bool:
    if name not in layer:
        return False
    try:
        parse_rule(name, layer[name], Scope[level.upper()])
    except InvalidInput:
        return False
    return True


def lists(kind: ListKind) -> typer.Typer:
    """The commands of one of the two lists."""
    what = "let through" if kind is ListKind.ALLOW else "refused"
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=f"Senders that are {what}: add, remove, list.")

    def add(context: typer.Context, pattern: str, whom: tuple[str | None, ...], unproven: bool) -> None:
        run = invocation.of(context)
        with run.administration() as administration:
            whose = _whose(administration, *whom)
            details = {"of": whose.name, "pattern": parse_pattern(pattern)}
            if unproven:
                details["unproven"] = "yes"
            administration.control.contracts.check_feature(whose.tenant_id, Feature.FILTER)
            whose.rules.check(whose.scope, pattern, kind, unproven=unproven)  # before a record says that it was added
            _audit(run, administration, whose, f"{kind}-add", details)
            entry = whose.rules.add(whose.scope, pattern, kind, unproven=unproven)
            if entry.unproven:
                run.output.note("Whoever writes that name into a message is let through: nothing has to prove it.")
            run.output.done(f"{entry.pattern} is on the {kind} list of {whose.name}.", _values(entry, whose.name))

    def add_allowed(
        context: typer.Context,
        pattern: Pattern,
        tenant: TenantOption = None,
        domain: DomainOption = None,
        account: AccountOption = None,
        unproven: Annotated[
            bool, typer.Option("--unproven", help="Also without proof (SPF, DKIM) that the mail comes from there.")
        ] = False,
    ) -> None:
        """Let a sender's mail through, whatever its content; malware and forbidden attachments are kept away."""
        add(context, pattern, (tenant, domain, account), unproven)

    def add_denied(
        context: typer.Context,
        pattern: Pattern,
        tenant: TenantOption = None,
        domain: DomainOption = None,
        account: AccountOption = None,
    ) -> None:
        """Refuse a sender's mail."""
        add(context, pattern, (tenant, domain, account), False)

    def remove(
        context: typer.Context,
        pattern: Pattern,
        tenant: TenantOption = None,
        domain: DomainOption = None,
        account: AccountOption = None,
    ) -> None:
        """Take a sender off the list."""
        run = invocation.of(context)
        with run.administration() as administration:
            whose = _whose(administration, tenant, domain, account)
            wanted = parse_pattern(pattern)
            if not any(each.pattern == wanted and each.kind is kind for each in whose.rules.entries(whose.scope)):
                raise NotFound(f"{wanted} is not on the {kind} list of {whose.name}.")  # before a record says otherwise
            details = {"of": whose.name, "pattern": wanted}
            _audit(run, administration, whose, f"{kind}-remove", details)
            whose.rules.remove(whose.scope, wanted, kind)
            run.output.done(f"{wanted} is on the {kind} list of {whose.name} no more.", details)

    def list_(
        context: typer.Context,
        tenant: TenantOption = None,
        domain: DomainOption = None,
        account: AccountOption = None,
    ) -> None:
        """List the senders of a tenant with its domains and accounts, or of one domain or account."""
        run = invocation.of(context)
        with run.administration() as administration:
            whose = _whose(administration, tenant, domain, account)
            subject = (whose.tenant_id, whose.account_id)
            record_all(run, administration, "senders.list", [subject], {"list": kind, "of": whose.name})
            entries = whose.rules.entries(None if whose.level is Scope.TENANT else whose.scope)
            rows = [_values(entry, _name(whose, entry.scope)) for entry in entries if entry.kind is kind]
        columns = {"pattern": "sender", "of": "of", "unproven": "unproven", "added": "added"}
        if kind is ListKind.DENY:
            columns.pop("unproven")
        run.output.rows(columns, rows, f"Nobody is on the {kind} list of {whose.name}.")

    app.command("add")(add_allowed if kind is ListKind.ALLOW else add_denied)
    app.command("remove")(remove)
    app.command("list")(list_)
    return app


allow, deny = lists(ListKind.ALLOW), lists(ListKind.DENY)


def _whose(administration: Administration, tenant: str | None, domain: str | None, account: str | None) -> Whose:
    """Whom the options name. Raises InvalidInput unless it is one of the three."""
    if sum(option is not None for option in (tenant, domain, account)) != 1:
        raise InvalidInput("Say of whom: one of --tenant, --domain and --account.")
    installation = administration.installation
    if account is not None:
        found = invocation.find_account(administration, account)
        row, store = found.account, installation.tenant(found.tenant.tenant_id)
        scope = of_account(row.account_id)
        return Whose(scope, Scope.ACCOUNT, str(row.login), store, row.account_id, row.login.domain)
    if domain is not None:
        owner = administration.control.domain(Domain.parse(domain))
        store = installation.tenant(owner.tenant_id)
        return Whose(of_domain(owner.domain), Scope.DOMAIN, str(owner.domain), store, None, owner.domain)
    assert tenant is not None
    customer = invocation.find_tenant(administration, tenant)
    return Whose(WHOLE_TENANT, Scope.TENANT, f"tenant {customer.slug}", installation.tenant(customer.tenant_id))


def _audit(run: Invocation, administration: Administration, whose: Whose, what: str, details: dict[str, str]) -> None:
    administration.installation.audit.append(
        f"filter.{what}", run.operator, whose.tenant_id, whose.account_id, details=details
    )


def _values(entry: ListEntry, of: str) -> dict[str, Any]:
    return {
        "pattern": entry.pattern,
        "of": of,
        "list": entry.kind,
        "unproven": entry.unproven,
        "added": moment(entry.created),
    }


def _name(whose: Whose, scope: RuleScope) -> str:
    """Of a scope of the tenant, for people."""
    level, _, name = scope.partition(":")
    if level != "account":
        return name or whose.name
    logins = {int(account.account_id): str(account.login) for account in whose.tenant.accounts()}
    return logins.get(int(name), f"account {name}")
