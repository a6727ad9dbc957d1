"""Verifies an archive: its signature, the hash of every file, and that the index says what the manifest counts.

Offline: nothing of an installation is needed. With the public key from elsewhere it proves who made the archive;
without it that nothing was changed since the holder of the key that the archive names signed it.

Raises: InvalidInput for what is no archive or does not verify.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import InvalidInput
from storage.export import names
from storage.export.archive import ArchiveFolder
from storage.export.collection_restore import verify_collections
from storage.export.index import FolderLine, MessageLine, Totals
from storage.export.manifest import Manifest
from storage.export.values import ACCOUNTS, Form, Progress, Tell

_STRANGE_MAX = 20


@dataclass(slots=True)
class Verified:
    """An archive that is what it was when it was signed. `strange`: what lies in it and is not part of it."""

    manifest: Manifest
    key_id: str
    strange: list[str] = field(default_factory=list)


def verify_archive(path: Path, key: bytes | None = None, progress: Tell | None = None) -> Verified:
    """Everything in it, and of a tenant's archive everything in those of its accounts."""
    with ArchiveFolder(path, key) as archive:
        archive.check_files()
        manifest = archive.signed.manifest
        verified = Verified(manifest, archive.signed.key_id)
        if manifest.kind == "account":
            _verify_account(archive, verified, progress)
            return verified
        key = archive.signed.public_key
    done = octets = messages = 0
    for folder, digest in manifest.accounts.items():
        if len(names.parts_of(folder)) != 1:
            raise InvalidInput("The archive names a file outside of itself.")

        def tell(one: Progress, done: int = done, octets: int = octets) -> None:
            if progress is not None:
                progress(Progress(done + one.done, manifest.messages, octets + one.octets))

        below = path / ACCOUNTS / folder
        if (path / ACCOUNTS).is_symlink() or below.is_symlink():
            raise InvalidInput("A folder of the archive is a link; nothing was read.")
        with ArchiveFolder(below, key) as archive:
            if archive.manifest_hash != digest or archive.signed.manifest.kind != "account":
                raise InvalidInput(f"The archive of {folder} is not the one that the manifest names.")
            archive.check_files()
            one = Verified(archive.signed.manifest, archive.signed.key_id)
            _verify_account(archive, one, tell)
        verified.strange += one.strange
        done += one.manifest.messages
        octets += one.manifest.octets
        messages += one.manifest.messages
    if (messages, octets) != (manifest.messages, manifest.octets):
        raise InvalidInput("The archives of the accounts do not hold what the manifest counts.")
    return verified


def _verify_account(archive: ArchiveFolder, verified: Verified, progress: Tell | None) -> None:
    _verify_mail(archive, verified, progress)
    verified.strange += verify_collections(archive)[:_STRANGE_MAX]


def _verify_mail(archive: ArchiveFolder, verified: Verified, progress: Tell | None) -> None:
    manifest = archive.signed.manifest
    totals = Totals()
    folder: FolderLine | None = None
    files = end = 0
    with archive.index() as lines:
        for line in lines:
            totals.count(line)
            if isinstance(line, FolderLine):
                _end_folder(archive, folder, files, end, verified)
                folder, files, end = None if line.gone else line, 0, 0
            elif isinstance(line, MessageLine):
                if manifest.form is Form.MBOX and line.offset != end:
                    raise InvalidInput("The index of the archive leaves a part of an mbox out.")
                archive.message(line)
                files, end = files + 1, line.offset + line.octets
                if progress is not None and not totals.messages % 100:
                    progress(Progress(totals.messages, manifest.messages, totals.octets))
    _end_folder(archive, folder, files, end, verified)
    counted = {
        "folders": totals.folders,
        "messages": totals.messages,
        "unreadable": totals.unreadable,
        "gone": totals.gone,
    }
    if any(manifest.counts.get(name) != number for name, number in counted.items()) or totals.octets != manifest.octets:
        raise InvalidInput("The index of the archive does not hold what the manifest counts.")


def _end_folder(archive: ArchiveFolder, folder: FolderLine | None, files: int, end: int, verified: Verified) -> None:
    """What else is in a folder whose messages are right."""
    if folder is None:
        return
    if archive.signed.manifest.form is Form.MBOX:
        if archive.size(folder.path) != end:
            raise InvalidInput(f"{folder.path} of the archive has octets that no message is made of.")
        return
    if archive.read(f"{folder.path}/dovecot-keywords", 1 << 16) != names.dovecot_keywords(folder.keywords):
        raise InvalidInput(f"{folder.path}/dovecot-keywords of the archive was changed.")
    more = len(archive.listed(f"{folder.path}/cur")) - files
    for part in ("new", "tmp"):
        more += len(archive.listed(f"{folder.path}/{part}"))
    if more and len(verified.strange) < _STRANGE_MAX:
        verified.strange.append(f"{folder.path}: {more} files that are not part of the archive")
