"""The manifest of an archive: what is in it, with a hash of each file, signed; written last.

Files of messages are named by the index, whose hash stands here, so that a manifest stays small whatever an account
holds; that of a tenant names the manifests of its accounts. An archive without one is incomplete. The signature proves
that this installation wrote it; who has its public key from elsewhere verifies that offline, anybody else at least that
nothing was changed since it was signed with the key that it names.

Raises: InvalidInput with one sentence that says why an archive does not verify.
Standards: RFC 8032 (Ed25519), RFC 8785 (canonical JSON).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from storage.certificates.certificate import canonical
from storage.certificates.signing import key_id
from storage.errors import Corrupt, InvalidInput
from storage.export.values import FORMAT, Form
from storage.keys import signing
from storage.keys.source import KeySource

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FILES_MAX = 64
_ACCOUNTS_MAX = 100_000
_NUMBER_MAX = (1 << 63) - 1

Kind = Literal["account", "tenant"]


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file as it has to be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds. `files` are those beside the messages, by their names."""

    kind: Kind
    form: Form
    name: str  # the account's address, or the tenant's short name
    made: int  # Unix seconds
    program: str
    counts: Mapping[str, int]
    octets: int  # of messages, as IMAP counts them
    files: Mapping[str, FileHash]
    accounts: Mapping[str, str] = field(default_factory=dict)  # of a tenant: folder, hash of its manifest
    format: int = FORMAT

    @property
    def messages(self) -> int:
        return self.counts.get("messages", 0)

    def values(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "kind": self.kind,
            "form": self.form.value,
            "name": self.name,
            "made": self.made,
            "program": self.program,
            "counts": dict(self.counts),
            "octets": self.octets,
            "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in self.files.items()},
            "accounts": dict(self.accounts),
        }


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest and the public key (32 octets) whose holder signed it."""

    manifest: Manifest
    public_key: bytes

    @property
    def key_id(self) -> str:
        return key_id(self.public_key)


def program() -> str:
    try:
        return f"cleanmail {version('cleanmail')}"
    except PackageNotFoundError:
        return "cleanmail"


def signed(manifest: Manifest, keys: KeySource) -> bytes:
    """The file."""
    values = manifest.values()
    public = keys.verifying_key("manifest")
    signature = {
        "algorithm": "Ed25519",
        "public_key": public.hex(),
        "value": keys.sign("manifest", canonical(values)).hex(),
    }
    return canonical({"manifest": values, "signature": signature}) + b"\n"


def read(octets: bytes, key: bytes | None = None) -> Signed:
    """A manifest whose signature is right; by the holder of `key`, if that is known."""
    try:
        document = _document(octets)
        values, signature = document["manifest"], document["signature"]
        public, value = bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["value"])
        if len(public) != 32:
            raise ValueError
        text = canonical(values)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("The manifest of the archive cannot be read.") from None
    if key is not None and key != public:
        raise InvalidInput(
            f"The archive was signed with the key {key_id(public)}, not with {key_id(key)}:"
            " it comes from another installation."
        )
    try:
        signing.verify(public, text, value)
    except Corrupt:
        raise InvalidInput("The manifest of the archive was changed after it had been signed.") from None
    return Signed(_manifest(values), public)


def _document(octets: bytes) -> dict[str, Any]:
    """JSON in which every reader sees the same."""

    def refuse(text: str) -> Any:
        raise ValueError(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        return values if len(values) == len(pairs) else refuse("a name stands there twice")

    document = json.loads(octets, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    if not isinstance(document, dict):
        raise ValueError
    return document


def _manifest(values: Any) -> Manifest:
    try:
        if values["format"] > FORMAT:
            raise InvalidInput("The archive was made by a later version of the program.")
        manifest = Manifest(
            kind=values["kind"],
            form=Form(values["form"]),
            name=values["name"],
            made=values["made"],
            program=values["program"],
            counts=dict(values["counts"]),
            octets=values["octets"],
            files={name: FileHash(file["size"], file["sha256"]) for name, file in values["files"].items()},
            accounts=dict(values["accounts"]),
            format=values["format"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("The manifest of the archive lacks something.") from None
    if values["kind"] not in ("account", "tenant") or not _is_right(manifest):
        raise InvalidInput("The manifest of the archive has a value that cannot be.")
    return manifest


def _is_right(manifest: Manifest) -> bool:
    numbers: list[Any] = [manifest.made, manifest.octets, manifest.format, *manifest.counts.values()]
    numbers += [file.size for file in manifest.files.values()]
    hashes: list[Any] = [file.sha256 for file in manifest.files.values()] + list(manifest.accounts.values())
    texts: list[Any] = [manifest.name, manifest.program]
    return (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int and 0 <= number <= _NUMBER_MAX for number in numbers)
        and all(isinstance(each, str) and _SHA256.match(each) for each in hashes)
        and len(manifest.files) <= _FILES_MAX
        and len(manifest.accounts) <= _ACCOUNTS_MAX
    )
