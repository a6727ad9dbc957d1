"""cleanmail account: the people who have a mailbox.

A new password ends the sessions that were opened with the old one; deleting destroys the account's key first, so what
is deleted cannot be read again by anybody.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.auth.passwords import Passwords
from hosting.cli import account_calendar, account_folders, endings, invocation, quantities, secrets_input
from hosting.cli.invocation import Invocation, Whose
from hosting.cli.output import moment, size
from hosting.cli.recording import record, record_all
from hosting.composition import passwords_of, scram_for_passwords
from storage.directory.rows import AccountRow
from storage.ending.orders import order_account
from storage.errors import InvalidInput
from storage.sending import Sending
from storage.values import EmailAddress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Mailbox owners: create, passwd, quota, list, show, suspend, resume, freeze, unfreeze, folders, calendar,"
    " delete.",
)

app.command()(account_folders.folders)
app.command()(account_calendar.calendar)

Address = Annotated[str, typer.Argument(help="The account's address.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it once.")]
Storage = Annotated[
    str | None, typer.Option(help="Largest total size of mail, calendars, contacts and files: 5G, 500M, unlimited.")
]
Messages = Annotated[int | None, typer.Option(help="Largest number of messages; 0 is unlimited.", min=0)]


@app.command()
def create(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The new address; its domain says which tenant.")],
    name: Annotated[str, typer.Option(help="Name of the person.")] = "",
    password_stdin: FromStdin = False,
    generate: Generate = False,
    without_password: Annotated[
        bool, typer.Option("--without-password", help="None at all: only app passwords sign in.")
    ] = False,
    storage: Storage = None,
    messages: Messages = None,
) -> None:
    """Make an account with its mailboxes; asks for the password unless told otherwise."""
    run = invocation.of(context)
    parsed = EmailAddress.parse(address)
    password, shown = (None, None) if without_password else _new_password(parsed, password_stdin, generate)
    verifier = passwords_of(run.config).hash(password) if password is not None else None
    with run.administration() as administration:
        domain = administration.control.domain(parsed.domain)
        owner = administration.control.tenant(domain.tenant_id)
        record(run, administration, "account.create", owner)
        row = administration.provisioning.create_account(
            domain.tenant_id,
            parsed,
            name=name,
            password_hash=verifier,
            quota_bytes=quantities.size(storage) if storage is not None else 0,
            quota_messages=messages or 0,
        )
        made = Whose(owner, row)
        if password is not None and verifier is not None:
            _for_scram(run, administration, made, verifier, password)
        record(run, administration, "account.created", made)
        _done(run, f"The account {row.login} was created.", _values(made), shown)


@app.command()
def passwd(
    context: typer.Context, address: Address, password_stdin: FromStdin = False, generate: Generate = False
) -> None:
    """Set a new password; sessions that were opened with the old one end."""
    run = invocation.of(context)
    parsed = EmailAddress.parse(address)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        password, shown = _new_password(parsed, password_stdin, generate)
        verifier = Passwords.hash(passwords_of(run.config), password)
        record(run, administration, "account.passwd", whose)
        administration.provisioning.set_password(whose.tenant.tenant_id, whose.account.account_id, verifier)
        _for_scram(run, administration, whose, verifier, password)
        _done(run, f"The password of {whose.account.login} was changed.", {"address": str(whose.account.login)}, shown)


@app.command()
def quota(context: typer.Context, address: Address, storage: Storage = None, messages: Messages = None) -> None:
    """Set what the account may store, or show it with what is used."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        row = whose.account
        given = {"storage": storage or "", "messages": "" if messages is None else str(messages)}
        record(run, administration, "account.quota" if any(given.values()) else "account.show", whose, given)
        if storage is not None or messages is not None:
            row = administration.provisioning.set_quota(
                whose.tenant.tenant_id,
                row.account_id,
                quota_bytes=quantities.size(storage) if storage is not None else row.quota_bytes,
                quota_messages=messages if messages is not None else row.quota_messages,
            )
        run.output.record(_usage(run, administration, Whose(whose.tenant, row)))


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(help="Short name of a tenant; all tenants if not given.")] = None,
) -> None:
    """List accounts."""
    run = invocation.of(context)
    with run.administration() as administration:
        tenants = invocation.living_tenants(administration, tenant)
        record_all(run, administration, "account.list", [(owner.tenant_id, None) for owner in tenants])
        rows = [
            _values(Whose(owner, row))
            for owner in tenants
            for row in administration.installation.tenant(owner.tenant_id).accounts()
        ]
    columns = {"number": "number", "address": "address", "name": "name", "tenant": "tenant", "state": "state"}
    run.output.rows(columns, rows, "There is no account yet; make one with: cleanmail account create ADDRESS.")


@app.command()
def show(context: typer.Context, address: Address) -> None:
    """Show an account, what it uses, and its app passwords."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "account.show", whose)
        tenant = administration.installation.tenant(whose.tenant.tenant_id)
        frozen = tenant.frozen.find(whose.account.account_id)
        devices = [row for row in tenant.app_passwords.list(whose.account.account_id) if row.revoked is None]
        run.output.record(
            {
                **_values(whose),
                **_usage(run, administration, whose),
                "unindexed": administration.unindexed(whose.tenant.tenant_id, whose.account.account_id),
                "may_send_as_catch_all": whose.account.catch_all_sender,
                "frozen": f"since {moment(frozen.since)}: {frozen.reason}" if frozen else None,
                "app_passwords": [f"{row.app_password_id} {row.name}" for row in devices],
            }
        )


@app.command()
def suspend(context: typer.Context, address: Address) -> None:
    """Let the account not sign in, and end its sessions; its mail waits for it."""
    _change(context, address, suspended=True)


@app.command()
def resume(context: typer.Context, address: Address) -> None:
    """End a suspension."""
    _change(context, address, suspended=False)


Reason = Annotated[str, typer.Option(help="Why; kept with the account and in the audit records.")]


@app.command()
def freeze(context: typer.Context, address: Address, reason: Reason) -> None:
    """Let the account send nothing, and hold what it has in the queue; it still signs in and gets mail."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = _recorded(run, administration, address, "account.freeze", reason)
        sending = Sending(administration.installation, run.config.sending)
        changed = sending.freeze(whose.tenant.tenant_id, whose.account.account_id, reason)
        sentence = f"{whose.account.login} may send nothing now; what it has in the queue is held."
        values = {"address": str(whose.account.login), "frozen": True, "changed": changed}
        run.output.done(sentence if changed else f"{whose.account.login} was frozen already.", values)


@app.command()
def unfreeze(context: typer.Context, address: Address, reason: Reason) -> None:
    """Let the account send again, and what was held of it go out."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = _recorded(run, administration, address, "account.unfreeze", reason)
        sending = Sending(administration.installation, run.config.sending)
        released = sending.thaw(whose.tenant.tenant_id, whose.account.account_id)
        run.output.done(
            f"{whose.account.login} may send again; of its messages {released} were held and wait for their turn now.",
            {"address": str(whose.account.login), "frozen": False, "released": released},
        )


def _recorded(run: Invocation, administration: Administration, address: str, action: str, reason: str) -> Whose:
    """The account, after an audit record that says what is about to be done to it."""
    if not reason.strip():
        raise InvalidInput("A reason is needed.")
    whose = invocation.find_account(administration, address)
    administration.installation.audit.append(
        action, run.operator, whose.tenant.tenant_id, whose.account.account_id, {"reason": reason}
    )
    return whose


@app.command("catch-all-sender")
def catch_all_sender(
    context: typer.Context,
    address: Address,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the grant back.")] = False,
) -> None:
    """Allow the account to send as any address that reaches it by a catch-all."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "account.catch-all-sender", whose, {"granted": "no" if withdraw else "yes"})
        administration.provisioning.allow_catch_all_sender(
            whose.tenant.tenant_id, whose.account.account_id, not withdraw
        )
        sentence = f"{whose.account.login} {'may no longer' if withdraw else 'may'} send as its catch-all addresses."
        run.output.done(sentence, {"address": str(whose.account.login), "granted": not withdraw})


@app.command()
def delete(
    context: typer.Context,
    address: Address,
    reason: endings.Reason = "",
    yes: endings.Yes = False,
    wait: endings.Wait = True,
    thorough: endings.Thorough = False,
) -> None:
    """Erase an account, its mail, calendars and contacts: its key is destroyed first, and a certificate says so.

    There is no way back.
    """
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        tenant_id, account_id, login = whose.tenant.tenant_id, whose.account.account_id, str(whose.account.login)
        administration.control.holds.check(tenant_id, account_id)  # before anything is asked
        endings.confirm(f"{login} will be erased with all its mail, calendars and contacts.", login, yes=yes)
        ending_id = order_account(
            administration.installation, tenant_id, account_id, run.operator, reason, thorough=thorough
        )
        endings.finish(
            run, administration, ending_id, wait=wait, sentence=f"The account {login} is gone with all it held"
        )


def _change(context: typer.Context, address: str, *, suspended: bool) -> None:
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "account.suspend" if suspended else "account.resume", whose)
        provisioning = administration.provisioning
        change = provisioning.suspend_account if suspended else provisioning.resume_account
        row = change(whose.tenant.tenant_id, whose.account.account_id)
        run.output.done(f"The account {row.login} is {row.state}.", _values(Whose(whose.tenant, row)))


def _new_password(address: EmailAddress, from_stdin: bool, generate: bool) -> tuple[str, str | None]:
    """The password, and what of it is to be shown."""
    if from_stdin and generate:
        raise InvalidInput("--password-stdin and --generate exclude each other.")
    if generate:
        password = secrets_input.generate()
        return password, password
    return (secrets_input.read_from_stdin() if from_stdin else secrets_input.ask(f"Password for {address}")), None


def _for_scram(run: Invocation, administration: Administration, whose: Whose, verifier: str, password: str) -> None:
    """Where the operator wants main passwords to be for SCRAM too."""
    if scram_for_passwords(run.config):
        ids = whose.tenant.tenant_id, whose.account.account_id
        administration.provisioning.make_scram_key(*ids, verifier, password)


def _done(run: Invocation, sentence: str, values: dict[str, Any], password: str | None) -> None:
    if password is None:
        run.output.done(sentence, values)
    else:
        run.output.done(f"{sentence}\nPassword, shown this once: {password}", {**values, "password": password})


def _values(whose: Whose) -> dict[str, Any]:
    row: AccountRow = whose.account
    return {
        "number": int(row.account_id),
        "address": str(row.login),
        "name": row.name,
        "tenant": whose.tenant.slug,
        "state": row.state,
        "created": moment(row.created),
    }


def _usage(run: Invocation, administration: Administration, whose: Whose) -> dict[str, Any]:
    row = whose.account
    used = administration.usage(whose.tenant.tenant_id, row.account_id)
    entries, octets = administration.entries(whose.tenant.tenant_id, row.account_id)
    values: dict[str, Any] = {
        "address": str(row.login),
        "storage_used": used.bytes,
        "storage_limit": row.quota_bytes,
        "messages_used": used.messages,
        "messages_limit": row.quota_messages,
        "entries": entries,  # of calendars, address books and folders of files
        "entries_used": octets,  # part of storage_used
    }
    if run.output.as_json:
        return values
    return {
        **values,
        "storage_used": size(used.bytes),
        "storage_limit": size(row.quota_bytes) if row.quota_bytes else "unlimited",
        "messages_limit": row.quota_messages or "unlimited",
        "entries_used": size(octets),
    }
