"""The certificates of an installation: certificates/<id>.json, signed, and the same for people as <id>.pdf.

They are the ledger of erasures too: whoever restores a backup erases again what was erased since it was made. A
certificate is durable when `keep` returns; it is never changed, and removed only when business records are.

Raises: NotFound, Conflict (there is another one with that number), Corrupt, Unavailable, StorageFull.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from storage.certificates.certificate import Certificate
from storage.certificates.signing import read
from storage.errors import Conflict, Corrupt, InvalidInput, NotFound
from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass

_log = logging.getLogger("cleanmail.storage")

FOLDER = "certificates"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")


FILES = (
    FileClass(f"{FOLDER}/*.json", classes.ERASURES, "a signed certificate of erasure"),
    FileClass(f"{FOLDER}/*.pdf", classes.ERASURES, "the same for people"),
)


class Certificates:
    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def keep(self, document: bytes, pdf: bytes | None = None) -> Certificate:
        """Keep a signed document, and what people file of it. May be repeated with the same document."""
        certificate = read(document)
        path = self._path(certificate.certificate_id, "json")
        durable.make_directory(self._folder)
        if path.exists() and path.read_bytes() != document:
            raise Conflict(f"There is another certificate {certificate.certificate_id} already.")
        durable.write_file(path, document)
        if pdf is not None:
            durable.write_file(self._path(certificate.certificate_id, "pdf"), pdf)
        return certificate

    def document(self, certificate_id: str) -> bytes:
        return self._read(certificate_id, "json")

    def pdf(self, certificate_id: str) -> bytes:
        return self._read(certificate_id, "pdf")

    def show(self, certificate_id: str) -> Certificate:
        return self._certificate(certificate_id)

    def all(self) -> list[Certificate]:
        """Those that can be read, in the order in which the erasures were finished; `damaged` names the others."""
        found = []
        for certificate_id in self._ids():
            try:
                found.append(self._certificate(certificate_id))
            except Corrupt as error:
                _log.error("%s; bring it back from a backup", error.detail)
        return sorted(found, key=lambda each: (each.finished, each.certificate_id))

    def damaged(self) -> list[str]:
        """Numbers of those that cannot be read."""
        return sorted(each for each in self._ids() if not self._is_whole(each))

    def _is_whole(self, certificate_id: str) -> bool:
        try:
            self._certificate(certificate_id)
        except Corrupt:
            return False
        return True

    def since(self, time: int) -> list[Certificate]:
        """Those of erasures after `time`, finished or not at that time: the ledger."""
        return [each for each in self.all() if each.finished >= time]

    def remove_before(self, time: int) -> int:
        """Those whose erasure was finished before that time: business records have their period. How many."""
        old = [each.certificate_id for each in self.all() if each.finished < time]
        for certificate_id in old:
            for form in ("pdf", "json"):
                durable.remove_file(self._path(certificate_id, form))
        return len(old)

    def _ids(self) -> Iterator[str]:
        if self._folder.is_dir():
            yield from (path.stem for path in self._folder.iterdir() if path.suffix == ".json" and _ID.match(path.stem))

    def _certificate(self, certificate_id: str) -> Certificate:
        try:
            return read(self.document(certificate_id))
        except InvalidInput as error:
            raise Corrupt(detail=f"certificate {certificate_id}: {error.public}") from None

    def _read(self, certificate_id: str, form: str) -> bytes:
        try:
            return self._path(certificate_id, form).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"There is no certificate {certificate_id[:64]} ({form}).") from None
        except OSError as error:
            raise durable.translated(error) from None

    def _path(self, certificate_id: str, form: str) -> Path:
        if not _ID.match(certificate_id):
            raise NotFound(f"'{certificate_id[:64]}' is no number of a certificate.")
        return self._folder / f"{certificate_id}.{form}"
