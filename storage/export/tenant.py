"""A tenant as an archive: tenant.json, and an archive of its own for each account, in a folder named by its address.

An account's archive that is complete is not looked at again when an interrupted export goes on; `update` goes through
all of them. The archive of an account that is gone is removed and noted. The manifest names the accounts' manifests and
is written last. Whoever calls it leaves the audit records.

Raises: as `storage.export.account`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.directory.rows import AccountRow, State
from storage.errors import AlreadyExists, InvalidInput
from storage.export import names, settings
from storage.export.account import export_account, hash_of, source_of
from storage.export.archive import ArchiveFolder
from storage.export.manifest import Manifest, program, signed
from storage.export.place import Place, claim
from storage.export.values import ACCOUNTS, DOCUMENT_MAX, MANIFEST, MARKER, TENANT, Form, Progress, Tell
from storage.installation import Installation
from storage.values import AccountId, TenantId


def export_tenant(
    installation: Installation,
    tenant_id: TenantId,
    target: Path,
    form: Form | str = Form.MAILDIR,
    progress: Tell | None = None,
    *,
    update: bool = False,
    before: Callable[[AccountRow], None] | None = None,
) -> Manifest:
    """Everything of the tenant. `before` is called for each account before anything of it is read."""
    form = Form(form)
    row = installation.control.tenant(tenant_id)
    identity = {"kind": "tenant", "form": form.value, "source": source_of(installation, tenant_id)}
    with claim(target, installation.data, identity) as place:
        if place.has(MANIFEST) and not update:
            raise AlreadyExists(f"The archive in {target} is complete; --update adds what came since.")
        place.remove(MANIFEST)
        place.make_folder(ACCOUNTS)
        accounts = [each for each in installation.tenant(tenant_id).accounts() if each.state is not State.ENDED]
        folders = {each.account_id: names.account_folder(str(each.login)) for each in accounts}
        run = _Accounts(installation, tenant_id, place, form, progress, update, before)
        for account in accounts:
            run.export(account, folders[account.account_id])
        gone = _note_gone(place, set(folders.values()), installation.clock.now())
        tenant = installation.tenant(tenant_id)
        values = settings.of_the_tenant(installation.control, tenant, row, folders, gone)
        place.write_document(TENANT, settings.document(values))
        manifest = Manifest(
            kind="tenant",
            form=form,
            name=row.slug,
            made=installation.clock.now(),
            program=program(),
            counts={"accounts": len(accounts), **run.counts},
            octets=run.octets,
            files={name: hash_of(place, name) for name in (MARKER, TENANT)},
            accounts=run.hashes,
        )
        place.settle()
        place.write_document(MANIFEST, signed(manifest, installation.keys))
    return manifest


class _Accounts:
    """The accounts of one run, one after the other."""

    def __init__(
        self,
        installation: Installation,
        tenant_id: TenantId,
        place: Place,
        form: Form,
        tell: Tell | None,
        update: bool,
        before: Callable[[AccountRow], None] | None,
    ) -> None:
        self._installation = installation
        self._tenant_id = tenant_id
        self._place = place
        self._form = form
        self._tell = tell
        self._update = update
        self._before = before
        self._total = 0
        self.counts = dict.fromkeys(
            (
                "folders",
                "messages",
                "unreadable",
                "gone",
                "collections",
                "objects",
                "object_octets",
                "unreadable_objects",
            ),
            0,
        )
        self.octets = 0
        self.hashes: dict[str, str] = {}

    def export(self, row: AccountRow, folder: str) -> None:
        target = self._place.path / ACCOUNTS / folder
        done = None if self._update else self._complete(target, row.account_id)
        if done is None:
            if self._before is not None:
                self._before(row)
            export_account(
                self._installation,
                self._tenant_id,
                row.account_id,
                target,
                self._form,
                self._told,
                update=True,
            )
            done = self._complete(target, row.account_id)
            assert done is not None
        manifest, self.hashes[folder] = done
        for name in self.counts:
            self.counts[name] += manifest.counts.get(name, 0)
        self.octets += manifest.octets

    def _told(self, progress: Progress) -> None:
        if self._tell is not None:
            before = self.counts["messages"]
            octets = self.octets + progress.octets
            self._tell(Progress(before + progress.done, before + progress.total, octets))

    def _complete(self, target: Path, account_id: AccountId) -> tuple[Manifest, str] | None:
        """Manifest and its hash, if there is one of ours."""
        try:
            with ArchiveFolder(target, self._installation.keys.verifying_key("manifest")) as archive:
                if archive.source != source_of(self._installation, self._tenant_id, account_id):
                    return None
                return archive.signed.manifest, archive.manifest_hash
        except InvalidInput:
            return None


def _note_gone(place: Place, folders: set[str], now: int) -> list[dict[str, Any]]:
    """Accounts that an earlier run exported and that are no more: their archives go, a note of them stays."""
    noted: dict[str, dict[str, Any]] = {}
    try:
        with (place.path / TENANT).open("rb") as file:
            before = json.loads(file.read(DOCUMENT_MAX))
        for each in before["gone"]:
            noted[str(each["address"])] = {"address": str(each["address"]), "noticed": int(each["noticed"])}
        addresses = {str(each["folder"]): str(each["address"]) for each in before["accounts"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        addresses = {}
    for folder, address in addresses.items():
        path = place.path / ACCOUNTS / folder
        if folder not in folders and len(names.parts_of(folder)) == 1:
            noted.setdefault(address, {"address": address, "noticed": now})
            if (path / MARKER).is_file() and not path.is_symlink():
                shutil.rmtree(path)
    return list(noted.values())
