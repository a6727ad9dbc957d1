"""cleanmail export: what an account or a tenant holds, as a folder to take along.

Each account that is read leaves an audit record first, which its owner sees. `verify` and what it reads need no data
directory: an archive proves itself, and with the public key of `export key` also who made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.composition import Administration
from storage.certificates import signing
from storage.directory.rows import AccountRow
from storage.directory.terms import Feature
from storage.errors import InvalidInput
from storage.export.account import export_account
from storage.export.manifest import Manifest
from storage.export.tenant import export_tenant
from storage.export.values import Form, Progress
from storage.export.verify import verify_archive
from storage.values import TenantId

MESSAGES_UNREADABLE = 4  # exit status: stored messages were damaged and are not in the archive
_KEY_MAX = 10_000


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
    help="Take data along: cleanmail export ADDRESS TO, cleanmail export --tenant SLUG TO; verify, key.",
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
    unreadable = manifest.counts["unreadable"]
    run.output.done(
        f"{target}: {_held(manifest)}; the archive is complete"
        + (f", but {unreadable} messages are damaged where they are stored." if unreadable else "."),
        {"archive": str(target), **_values(manifest)},
    )
    if unreadable:
        raise typer.Exit(MESSAGES_UNREADABLE)


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
    return f"{manifest.name}: {accounts}{folders}"


def _values(manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": manifest.kind,
        "name": manifest.name,
        "form": manifest.form,
        "made": moment(manifest.made),
        **manifest.counts,
        "octets": manifest.octets,
    }
