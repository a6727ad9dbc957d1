"""cleanmail certificate: certificates of erasure, to list, hand out and verify.

`verify` needs the document, or its PDF, and the public key of the installation that issued it; no data directory and no
configuration. Reading a certificate is open to whoever may administer: it names a customer and no person.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.roles import privileges
from storage.certificates import attachment, issuing, signing
from storage.certificates.certificate import LARGEST, Certificate, Remaining
from storage.certificates.store import Certificates
from storage.errors import InvalidInput, NotFound

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Certificates of erasure: list, show, export, verify, key."
)

Number = Annotated[str, typer.Argument(help="The certificate's number, from: cleanmail certificate list.")]

PAGES_UNPROVEN = 4  # exit status, as of `check`
_FILE_MAX = LARGEST + 1_000_000


@app.command("list")
def list_(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(metavar="SLUG", help="Of one customer, ended or not.")] = "",
) -> None:
    """List certificates, the oldest first."""
    run = invocation.of(context)
    kept = _kept(run)
    found = kept.all()
    for number in kept.damaged():
        run.output.note(f"Certificate {number} is damaged; bring it back from a backup.")
    chosen = [each for each in found if not tenant or tenant in (each.scope.name, str(each.scope.tenant_id))]
    columns = {
        "certificate": "certificate",
        "finished": "finished",
        "customer": "customer",
        "account": "account",
        "bytes": "bytes",
        "found": "remains",
    }
    run.output.rows(columns, [_summary(each) for each in chosen], "No erasure has been certified.")


@app.command()
def show(context: typer.Context, number: Number) -> None:
    """Show what a certificate says."""
    run = invocation.of(context)
    run.output.record(_values(_kept(run).show(number)))


@app.command()
def export(
    context: typer.Context,
    number: Number,
    target: Annotated[Path | None, typer.Argument(help="A file that is made; standard output if not given.")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="As a PDF; the default for a name that ends in .pdf.")] = False,
) -> None:
    """Hand out a certificate as it was signed: JSON, or a PDF with the JSON attached."""
    run = invocation.of(context)
    document = _kept(run).document(number)
    as_pdf = pdf or (target is not None and target.suffix.lower() == ".pdf")
    octets = issuing.pages(document) if as_pdf else document
    if target is None:
        if as_pdf and sys.stdout.isatty():
            raise InvalidInput("A PDF is not for a terminal; name a file.")
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return
    if target.exists():
        raise InvalidInput(f"{target} exists already.")
    try:
        target.write_bytes(octets)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror}.") from None
    run.output.done(
        f"{target}: the certificate {number}, {size(len(octets))}.", {"certificate": number, "file": str(target)}
    )


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The certificate, JSON or PDF; - is standard input.")],
    key: Annotated[
        str,
        typer.Option(
            metavar="FILE|HEX",
            help="The issuer's public key: a file (PEM or hexadecimal) or its 64 digits; this installation's if not"
            " given.",
        ),
    ] = "",
    installation: Annotated[str, typer.Option(metavar="ID", help="Demand that it comes from this installation.")] = "",
) -> None:
    """Find out whether a certificate is genuine and unchanged; with --key, without any data directory.

    Of a PDF its attachment counts. Exit status 4: that is genuine, and what is printed on the pages was not made of it
    by this version of the program, so nothing proves it.
    """
    run = invocation.of(context)
    octets = _read(file)
    document = attachment.attached(octets) if attachment.is_pdf(octets) else octets
    public = _key(key) if key else _own_key(run)
    certificate = signing.verify(document, public, installation_id=installation or None)
    pages = issuing.pages_match(octets, document) if attachment.is_pdf(octets) else None
    values = {"genuine": True, "pages_match": pages, "signed_with_key": signing.key_id(public), **_values(certificate)}
    if run.output.as_json:
        run.output.record(values)
    else:
        run.output.record(_values(certificate))
        what = "attached certificate" if pages is False else "certificate"
        run.output.done(
            f"The {what} is genuine and unchanged: signed with the key {values['signed_with_key']}.", values
        )
    if pages is False:
        run.output.note(
            "The pages of the PDF are not those that this version of the program makes of it: another version did, or"
            " they were changed. Believe what stands here, not what is printed on them."
        )
        raise typer.Exit(PAGES_UNPROVEN)


@app.command()
def key(
    context: typer.Context,
    pem: Annotated[bool, typer.Option("--pem", help="As PEM, for other programs.")] = False,
) -> None:
    """Print the public key that verifies this installation's certificates; publish it where customers find it."""
    run = invocation.of(context)
    with run.keys() as keys:
        public = keys.verifying_key("certificate")
    text = signing.pem(public).strip() if pem else public.hex()
    run.output.done(text, {"key": public.hex(), "key_id": signing.key_id(public), "pem": signing.pem(public)})


def _kept(run: Invocation) -> Certificates:
    privileges.become_owner(run.data)
    return Certificates(run.data)


def _read(file: Path) -> bytes:
    try:
        if str(file) == "-":
            octets = sys.stdin.buffer.read(_FILE_MAX + 1)
        else:
            with file.open("rb") as opened:
                octets = opened.read(_FILE_MAX + 1)
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.") from None
    if len(octets) > _FILE_MAX:
        raise InvalidInput(f"{file} is too large for a certificate of erasure.")
    return octets


def _own_key(run: Invocation) -> bytes:
    """This installation's. Raises InvalidInput where there is none."""
    privileges.become_owner(run.data)
    if not composition.is_initialised(run.data):
        raise InvalidInput(f"There is no installation in {run.data}: name the issuer's public key: --key FILE|HEX.")
    with run.keys() as keys:
        return keys.verifying_key("certificate")


def _key(text: str) -> bytes:
    """From a file, if there is one of that name; else the digits themselves."""
    path = Path(text)
    try:
        if len(text) < 200 and path.is_file():
            with path.open("rb") as opened:
                return signing.read_key(opened.read(20_000))
    except OSError as error:
        raise NotFound(f"{text} cannot be read: {error.strerror}.") from None
    try:
        return signing.read_key(text.encode())
    except InvalidInput:
        raise InvalidInput(f"'{text[:80]}' is no file, nor an Ed25519 public key of 64 hexadecimal digits.") from None


def _summary(certificate: Certificate) -> dict[str, Any]:
    return {
        "certificate": certificate.certificate_id,
        "finished": moment(certificate.finished),
        "customer": certificate.scope.name,
        "account": certificate.scope.account_id,
        "bytes": certificate.counts.bytes,
        "found": certificate.search.found,
    }


def _values(certificate: Certificate) -> dict[str, Any]:
    scope, counts, keys, search = certificate.scope, certificate.counts, certificate.keys, certificate.search
    return {
        "certificate": certificate.certificate_id,
        "issued_by": certificate.issuer,
        "installation": certificate.installation_id,
        "customer": scope.name,
        "number": scope.tenant_id,
        "account": scope.account_id,
        "domains": list(scope.domains),
        "reason": certificate.ordered_by,
        "ordered": moment(certificate.begun),
        "unreadable": moment(certificate.unreadable),
        "finished": moment(certificate.finished),
        "accounts": counts.accounts,
        "messages": counts.messages,
        "entries": counts.entries,
        "files": counts.files,
        "bytes": counts.bytes,
        "queue_entries": counts.queue_entries,
        "withheld": counts.withheld,
        "rows": counts.rows,
        "keys_destroyed": len(keys.key_ids),
        "master_generations": f"{keys.master_before}, then {keys.master_after or 'the same'}",
        "master_place": keys.master_place,
        "nist_sp_800_88": keys.sanitization,
        "key_copies_until": moment(keys.backups_until),
        "steps": [f"{each.step} {moment(each.at)}" for each in certificate.steps],
        "searched": f"{search.files} files, {search.bytes} bytes",
        "remains_found": search.found,
        "remaining": [_remaining(each) for each in certificate.remaining],
        "holds": [f"{each.hold_id} until {moment(each.ended)}" for each in certificate.holds],
        "program": certificate.program,
    }


def _remaining(each: Remaining) -> str:
    return (
        f"{each.data_class}, until {moment(each.until)}" if each.until is not None else f"{each.data_class}, of nobody"
    )
