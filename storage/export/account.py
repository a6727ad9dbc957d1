"""One account as an archive in a folder of its own.

`export_account` begins an archive, goes on with one that was interrupted, or (`update`) brings a complete one to what
the account holds now. While it works the archive has no manifest, which says that it is incomplete; when it returns,
everything is on the disk and the manifest says what there is. Whoever calls it leaves the audit record.

Raises: NotFound, Gone, AlreadyExists (complete already), Conflict, InvalidInput, NotPermitted, StorageFull,
Unavailable.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from storage.errors import AlreadyExists
from storage.export import names, settings
from storage.export.collections import export_collections
from storage.export.index import Totals
from storage.export.mail import export_mail
from storage.export.manifest import FileHash, Manifest, program, signed
from storage.export.place import Place, claim
from storage.export.values import ACCOUNT, INDEX, MANIFEST, MARKER, Form, Tell
from storage.installation import Installation
from storage.mail.account import Account
from storage.values import AccountId, TenantId


def export_account(
    installation: Installation,
    tenant_id: TenantId,
    account_id: AccountId,
    target: Path,
    form: Form | str = Form.MAILDIR,
    progress: Tell | None = None,
    *,
    update: bool = False,
) -> Manifest:
    """Everything that the account holds; `target` is a folder that is empty, not there, or this account's archive."""
    form = Form(form)
    tenant = installation.tenant(tenant_id)
    row = tenant.account(account_id)
    identity = {"kind": "account", "form": form.value, "source": source_of(installation, tenant_id, account_id)}
    with claim(target, installation.data, identity) as place, installation.account(tenant_id, account_id) as account:
        if place.has(MANIFEST) and not update:
            raise AlreadyExists(f"The archive in {target} is complete; --update adds what came since.")
        place.remove(MANIFEST)
        now = installation.clock.now()
        totals = export_mail(account, place, form, now, progress)
        values = settings.of_the_account(installation.tenant(tenant_id), row, account)
        place.write_document(ACCOUNT, settings.document(values))
        files = [MARKER, ACCOUNT, INDEX]
        if form is Form.MAILDIR:
            files.append(_subscriptions(account, place))
        counts = _counts(totals)
        more, counted = export_collections(account, place)
        files += more
        counts |= counted
        manifest = Manifest(
            kind="account",
            form=form,
            name=str(row.login),
            made=now,
            program=program(),
            counts=counts,
            octets=totals.octets,
            files={name: hash_of(place, name) for name in files},
        )
        place.settle()
        place.write_document(MANIFEST, signed(manifest, installation.keys))
    return manifest


def source_of(installation: Installation, *numbers: int) -> str:
    """What tells archives of one account or tenant from all others, and nothing about whose they are."""
    numbered = installation.keys.verifying_key("manifest") + b"".join(b"/%d" % number for number in numbers)
    return hashlib.sha256(b"export\0" + numbered).hexdigest()[:32]


def hash_of(place: Place, name: str) -> FileHash:
    descriptor = os.open(place.path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileHash(os.fstat(file.fileno()).st_size, digest)


def _subscriptions(account: Account, place: Place) -> str:
    """The file that Dovecot takes subscriptions of a Maildir from."""
    wanted = account.mailboxes.subscriptions()
    mailboxes = sorted(account.mailboxes.list(), key=lambda each: each.id)
    paths = names.folder_paths(Form.MAILDIR, ((each.id, each.name) for each in mailboxes))
    listed = [paths[each.id].rpartition("/.")[2] for each in mailboxes if each.name in wanted]
    name = f"{names.MAILDIR}/subscriptions"
    text = "".join(f"{'INBOX' if each == names.MAILDIR else each}\n" for each in listed)
    place.make_folder(names.MAILDIR)
    place.write(name, text.encode())
    return name


def _counts(totals: Totals) -> dict[str, Any]:
    return {
        "folders": totals.folders,
        "messages": totals.messages,
        "unreadable": totals.unreadable,
        "gone": totals.gone,
    }
