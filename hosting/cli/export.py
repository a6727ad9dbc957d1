"""cleanmail export: what an account or a tenant holds, as a folder to take along.

Each account that is read leaves an audit record first, which its owner sees. `verify` and what it reads need no data
directory: an archive proves itself, and with the public key of `export key` also who made it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.dav.calendars.whole import whole_calendar
from hosting.dav.contacts.whole import whole_book
from storage.certificates import signing
from storage.collections.values import Collection, Kind
from storage.directory.rows import AccountRow
from storage.directory.terms import Feature
from storage.errors import AlreadyExists, InvalidInput, NotFound
from storage.export.account import export_account
from storage.export.manifest import Manifest
from storage.export.place import sentences
from storage.export.tenant import export_tenant
from storage.export.values import Form, Progress
from storage.export.verify import verify_archive
from storage.mail.account import Account
from storage.values import TenantId

MESSAGES_UNREADABLE = 4  # exit status: stored messages were damaged and are not in the archive
_KEY_MAX = 10_000
_SUFFIXES = {Kind.CALENDAR: ".ics", Kind.ADDRESS_BOOK: ".vcf"}  # of collections; a name with another or none is taken


class _OrArchive(TyperGroup):
    """`cleanmail export ADDRESS TO` stands for `cleanmail export archive ADDRESS TO`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["archive", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_OrArchive,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take data along: cleanmail export ADDRESS TO, cleanmail export --tenant SLUG TO; collection, verify, key.",
)


@app.command()
def archive(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="[ADDRESS] TO", help="The account, and a folder of its own.")],
    tenant: Annotated[str, typer.Option(metavar="SLUG", help="All accounts of this tenant, and what it has set.")] = "",
    form: Annotated[Form, typer.Option("--format", help="A Maildir, or an mbox file for each folder.")] = Form.MAILDIR,
    update: Annotated[bool, typer.Option("--update", help="Add what came since, and note what went.")] = False,
) -> None:
    """Export an account or a tenant; run it again with the same folder to go on after an interruption."""
    run = invocation.of(context)
    if len(words) != (1 if tenant else 2):
        raise InvalidInput("Say: cleanmail export ADDRESS TO, or: cleanmail export --tenant SLUG TO.")
    target = Path(words[-1]).absolute()
    with run.administration() as administration, run.output.progress() as bar:
        task = bar.add_task("exporting", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        if tenant:
            row = invocation.find_tenant(administration, tenant)
            administration.control.contracts.check_feature(row.tenant_id, Feature.EXPORT)
            details = {"form": form.value, "scope": "tenant"}
            administration.installation.audit.append("tenant.export", run.operator, row.tenant_id, None, details)

            def before(account: AccountRow) -> None:
                _record(run, administration, row.tenant_id, account, details)

            manifest = export_tenant(
                administration.installation, row.tenant_id, target, form, show, update=update, before=before
            )
        else:
            whose = invocation.find_account(administration, words[0])
            administration.control.contracts.check_feature(whose.tenant.tenant_id, Feature.EXPORT)
            _record(run, administration, whose.tenant.tenant_id, whose.account, {"form": form.value})
            manifest = export_account(
                administration.installation,
                whose.tenant.tenant_id,
                whose.account.account_id,
                target,
                form,
                show,
                update=update,
            )
    unreadable = manifest.counts["unreadable"] + manifest.counts["unreadable_objects"]
    run.output.done(
        f"{target}: {_held(manifest)}; the archive is complete"
        + (f", but {unreadable} messages or entries are damaged where they are stored." if unreadable else "."),
        {"archive": str(target), **_values(manifest)},
    )
    if unreadable:
        raise typer.Exit(MESSAGES_UNREADABLE)


@app.command()
def collection(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account.")],
    name: Annotated[str, typer.Argument(help="Its calendar or address book, as in its path or as it is shown.")],
    to: Annotated[Path, typer.Argument(metavar="FILE", help="An .ics or .vcf file that is not there yet.")],
) -> None:
    """Export one calendar as an .ics file, or one address book as a .vcf file."""
    run = invocation.of(context)
    target = to.absolute()
    if os.path.lexists(target):
        raise AlreadyExists(f"{to} is there already; it stays as it is.")
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        tenant_id = whose.tenant.tenant_id
        administration.control.contracts.check_feature(tenant_id, Feature.EXPORT)
        _record(run, administration, tenant_id, whose.account, {"form": "collection"})
        with administration.installation.account(tenant_id, whose.account.account_id) as account:
            found = named_collection(account, name)
            suffix = _SUFFIXES[found.kind]
            if target.suffix.lower() in {*_SUFFIXES.values()} - {suffix}:
                raise InvalidInput(f"{found.display_name or found.name} goes into a file that ends in {suffix}.")
            with sentences():
                octets = _write(target, whole_calendar if found.kind is Kind.CALENDAR else whole_book, account, found)
    values = {"collection": found.name, "kind": found.kind, "entries": found.objects, "octets": octets}
    run.output.done(f"{to}: {found.objects} entries of {found.display_name or found.name} ({size(octets)}).", values)


def named_collection(account: Account, name: str) -> Collection:
    """A calendar or an address book, by its name or by what it is shown as. Raises NotFound, InvalidInput."""
    there = [each for kind in (Kind.CALENDAR, Kind.ADDRESS_BOOK) for each in account.collections.list(kind)]
    found = [each for each in there if each.name == name] or [each for each in there if each.display_name == name]
    if not found:
        raise NotFound(f"There is no calendar or address book {name}; there are: {', '.join(e.name for e in there)}.")
    if len(found) > 1:
        raise InvalidInput(f"Several are called {name}; say the name in its path.")
    return found[0]


def _write(
    target: Path, parts: Callable[[Account, Collection], Iterator[bytes]], account: Account, of: Collection
) -> int:
    """For its owner's eyes only, and in no file of somebody else's."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        for part in parts(account, of):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


@app.command()
def verify(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The archive.")],
    key: Annotated[
        str,
        typer.Option(
            metavar="FILE|HEX",
            help="The public key of the installation that made it, from: cleanmail export key. Without it, the archive"
            " is verified against the key that it names itself.",
        ),
    ] = "",
) -> None:
    """Find out whether an archive is complete and unchanged, and with --key who made it; needs no installation."""
    run = invocation.of(context)
    with run.output.progress() as bar:
        task = bar.add_task("verifying", total=None)
        verified = verify_archive(
            folder.absolute(),
            read_key(key),
            lambda progress: bar.update(task, completed=progress.done, total=progress.total),
        )
    whose = "the key that was given" if key else f"the key {verified.key_id}, which it names itself"
    run.output.done(
        f"{folder}: {_held(verified.manifest)}. The archive is complete and unchanged since"
        f" {moment(verified.manifest.made)}, signed with {whose}.",
        {"genuine": True, "key_id": verified.key_id, "strange": verified.strange, **_values(verified.manifest)},
    )
    for each in verified.strange:
        run.output.note(each)


@app.command("key")
def key_(context: typer.Context) -> None:
    """Print the public key that archives of this installation are signed with."""
    run = invocation.of(context)
    with run.keys() as keys:
        public = keys.verifying_key("manifest")
    values = {"key_id": signing.key_id(public), "public_key": public.hex()}
    run.output.done(public.hex(), values)


def read_key(text: str) -> bytes | None:
    """The public key in a file (PEM or hexadecimal), or in the text itself; None for none. Raises InvalidInput."""
    if not text:
        return None
    path = Path(text)
    try:
        if path.is_file():
            with path.open("rb") as file:
                return signing.read_key(file.read(_KEY_MAX))
    except OSError as error:
        raise InvalidInput(f"{text} cannot be read: {error.strerror}.") from None
    return signing.read_key(text.encode())


def _record(
    run: Invocation, administration: Administration, tenant_id: TenantId, account: AccountRow, details: dict[str, str]
) -> None:
    """Before anything of the account is read."""
    administration.installation.audit.append("account.export", run.operator, tenant_id, account.account_id, details)


def _held(manifest: Manifest) -> str:
    accounts = f"{manifest.counts['accounts']} accounts, " if manifest.kind == "tenant" else ""
    folders = f"{manifest.messages} messages ({size(manifest.octets)}) in {manifest.counts['folders']} folders"
    counts = manifest.counts
    entries = f", {counts['objects']} entries in {counts['collections']} collections" if counts.get("objects") else ""
    return f"{manifest.name}: {accounts}{folders}{entries}"


def _values(manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": manifest.kind,
        "name": manifest.name,
        "form": manifest.form,
        "made": moment(manifest.made),
        **manifest.counts,
        "octets": manifest.octets,
    }
