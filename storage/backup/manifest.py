"""What a backup consists of: a part for the installation, one for the queue and one for each tenant, and the manifest.

    <backup>/data/…              the files, each where it stands in the data directory
    <backup>/parts/<part>.jsonl  a line for each file of the part: path, size, SHA-256, what its source looked like
    <backup>/manifest.json       the parts with their SHA-256, and about the whole; written last, signed

A backup without a manifest is none. The signature (Ed25519) is the installation's: whoever has its keys can tell that
nothing was changed, added or left out. Parts are read one at a time, so that memory does not grow with the tenants.

Raises: NotFound (no backup there), InvalidInput (torn, changed, or not of this installation), StorageFull, Unavailable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from storage.errors import InvalidInput, NotFound, Unavailable
from storage.files import durable
from storage.keys.sealing import derive
from storage.keys.source import KeySource

FORMAT = 1
FILE = "manifest.json"
DATA, PARTS = "data", "parts"
INSTALLATION, QUEUE = "installation", "queue"  # parts; the others are those of tenants
_TENANT = "tenant-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup."""

    path: str  # below data/
    size: int
    digest: str  # SHA-256, hexadecimal
    mark: str = ""  # what its source looked like: while it looks the same nothing was written; empty: nobody knows


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    digest: str  # SHA-256 of its file in parts/
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    id: str
    installation: str  # which one, without saying anything about it
    made: int  # Unix seconds: when it was begun
    finished: int
    expires: int
    previous: str  # the backup whose unchanged files it shares; empty: none
    parts: tuple[Part, ...]
    missing: tuple[str, ...] = ()  # files that rows name and that were not there
    skipped: tuple[str, ...] = ()  # parts that could not be copied, and why
    format: int = FORMAT

    @property
    def files(self) -> int:
        return sum(part.files for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise NotFound("The backup does not hold it.")

    def tenants(self) -> list[int]:
        """Numbers of the tenants whose parts it has."""
        return sorted(int(part.name.removeprefix(_TENANT)) for part in self.parts if part.name.startswith(_TENANT))


def part_of_tenant(tenant_id: int) -> str:
    return f"{_TENANT}{int(tenant_id)}"


def installation_id(keys: KeySource) -> str:
    """The same for all backups of an installation, and different for others."""
    return derive(keys.service_key("control"), "backup", "installation").hex()[:32]


# Parts


def write_part(root: Path, name: str, entries: Iterable[Entry]) -> Part:
    """Durable with the next sync of the file system."""
    digest, count, octets = hashlib.sha256(), 0, 0
    try:
        with open(root / PARTS / f"{name}.jsonl", "xb") as file:
            for entry in sorted(entries, key=lambda entry: entry.path):
                line = json.dumps([entry.path, entry.size, entry.digest, entry.mark]).encode("ascii") + b"\n"
                digest.update(line)
                file.write(line)
                count += 1
                octets += entry.size
            line = json.dumps({"end": count}).encode("ascii") + b"\n"
            digest.update(line)
            file.write(line)
    except OSError as error:
        raise durable.translated(error) from None
    return Part(name, digest.hexdigest(), count, octets)


def read_part(root: Path, part: Part) -> Iterator[Entry]:
    """Its entries by path, one after the other: of a million files nobody needs all at once.

    Raises InvalidInput, before the first of them, if they are not what the manifest says.
    """
    try:
        file = open(root / PARTS / f"{part.name}.jsonl", "rb")  # noqa: SIM115 - closed when the last entry was read
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    except FileNotFoundError:
        raise InvalidInput(f"The list of files of part {part.name} is missing from the backup {root.name}.") from None
    except OSError as error:
        raise _unreadable(root, error) from None
    if digest != part.digest:
        file.close()
        raise InvalidInput(f"The list of files of part {part.name} of the backup {root.name} was changed or is torn.")
    return _entries(root, file)


def _entries(root: Path, file: IO[bytes]) -> Iterator[Entry]:
    with file:
        for line in file:
            values = json.loads(line)
            if isinstance(values, list):
                yield _entry(root, *values)


def _entry(root: Path, path: str, size: int, digest: str, mark: str) -> Entry:
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidInput(f"The backup {root.name} names a file outside itself.")
    return Entry(path, size, digest, mark)


# The manifest


def write(root: Path, manifest: Manifest, sign: Callable[[bytes], bytes], public: bytes) -> None:
    """Durable when it returns: from now on the backup is one."""
    text = _canonical(manifest)
    document = {
        "manifest": json.loads(text),
        "signature": sign(text).hex(),
        "public_key": public.hex(),
    }
    durable.write_file(root / FILE, json.dumps(document, indent=1).encode("ascii") + b"\n")


def read(root: Path, public: bytes | None = None) -> Manifest:
    """What the backup says of itself. With the installation's public key: nobody else wrote it."""
    try:
        data = (root / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"There is no backup in {root}.") from None
    except OSError as error:
        raise _unreadable(root, error) from None
    try:
        document = json.loads(data)
        fields = document["manifest"]
        if int(fields["format"]) != FORMAT:
            raise InvalidInput(f"The backup {root.name} was made by another version of Cleanmail.")
        manifest = _manifest(fields)
        signature, own = bytes.fromhex(document["signature"]), bytes.fromhex(document["public_key"])
        Ed25519PublicKey.from_public_bytes(own).verify(signature, _canonical(manifest))
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"The manifest of the backup {root.name} is torn.") from None
    except InvalidSignature:
        raise InvalidInput(f"The manifest of the backup {root.name} was changed after it was written.") from None
    if public is not None and own != public:
        raise InvalidInput(f"The backup {root.name} is of another installation, or was made under other keys.")
    return manifest


def _manifest(fields: dict[str, Any]) -> Manifest:
    values = dict(fields)
    values["parts"] = tuple(Part(**part) for part in fields["parts"])
    values["missing"], values["skipped"] = tuple(fields["missing"]), tuple(fields["skipped"])
    return Manifest(**values)


def _canonical(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":")).encode("ascii")


def by_folder(entries: Iterable[Entry], depth: int) -> dict[str, list[Entry]]:
    """Entries by the first names of their paths."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault("/".join(entry.path.split("/", depth)[:depth]), []).append(entry)
    return found


def _unreadable(root: Path, error: OSError) -> Unavailable:
    return Unavailable(f"The backup {root.name} cannot be read: {error.strerror}.")
