"""What is signed of the audit chain: that it had a certain record at its head, or that it begins behind a record.

A checkpoint that is kept elsewhere is an anchor: a file of JSON with all that is signed, the signature, and the public
key for people to compare. Whoever changes the chain afterwards cannot change the anchor; whoever has not the signing
key cannot make another.

Raises: InvalidInput (no anchor, one of another installation, one that does not verify).
Standards: RFC 8032 (Ed25519).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from storage.errors import Corrupt, InvalidInput
from storage.keys import signing

PURPOSE: signing.SigningPurpose = "audit"
ANCHOR_MAX = 10_000  # octets of a file

_FORMAT = "cleanmail audit anchor"
_HASH_SIZE = 32
_NUMBER_MAX = (1 << 63) - 1


class Signer(Protocol):
    """What signs: `storage.keys.source.KeySource`."""

    def sign(self, purpose: signing.SigningPurpose, message: bytes) -> bytes: ...

    def verifying_key(self, purpose: signing.SigningPurpose) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """That record `number` has this hash, and so all before it theirs."""

    number: int
    time: int  # when it was signed
    hash: bytes
    signature: bytes = field(default=b"", repr=False)

    def message(self, installation_id: str) -> bytes:
        return _message("checkpoint", installation_id, self.number, self.hash, self.time)


@dataclass(frozen=True, slots=True)
class Origin:
    """That the chain begins behind record `number`: it and those before it had had their time, and were removed."""

    number: int
    time: int  # when they were removed
    hash: bytes
    cut_off: int  # all of them were older than this
    signature: bytes = field(default=b"", repr=False)

    def message(self, installation_id: str) -> bytes:
        return _message("origin", installation_id, self.number, self.hash, self.time, self.cut_off)


def signed_checkpoint(signer: Signer, installation_id: str, number: int, time: int, hashed: bytes) -> Checkpoint:
    unsigned = Checkpoint(number, time, hashed)
    return Checkpoint(number, time, hashed, signer.sign(PURPOSE, unsigned.message(installation_id)))


def signed_origin(signer: Signer, installation_id: str, number: int, time: int, hashed: bytes, cut_off: int) -> Origin:
    unsigned = Origin(number, time, hashed, cut_off)
    return Origin(number, time, hashed, cut_off, signer.sign(PURPOSE, unsigned.message(installation_id)))


def check(what: Checkpoint | Origin, public_key: bytes, installation_id: str) -> None:
    """Raises Corrupt unless the installation's key signed just this."""
    try:
        signing.verify(public_key, what.message(installation_id), what.signature)
    except Corrupt:
        name = "checkpoint" if isinstance(what, Checkpoint) else "begin of the chain"
        raise Corrupt(
            f"The audit chain's {name} at record {what.number} was not signed by this installation."
        ) from None


def write_anchor(checkpoint: Checkpoint, installation_id: str, public_key: bytes) -> str:
    """The text of an anchor's file."""
    values = {
        "format": _FORMAT,
        "version": 1,
        "installation": installation_id,
        "number": checkpoint.number,
        "hash": checkpoint.hash.hex(),
        "time": checkpoint.time,
        "signature": checkpoint.signature.hex(),
        "public_key": public_key.hex(),
    }
    return json.dumps(values, indent=2) + "\n"


def read_anchor(text: bytes, installation_id: str, public_key: bytes) -> Checkpoint:
    """An anchor of this installation, whose signature verifies."""
    values = _parsed(text)
    if values["installation"] != installation_id:
        raise InvalidInput("This anchor is of another installation.")
    try:
        found = Checkpoint(
            values["number"], values["time"], bytes.fromhex(values["hash"]), bytes.fromhex(values["signature"])
        )
    except ValueError:
        raise InvalidInput("The anchor is damaged.") from None
    if len(found.hash) != _HASH_SIZE:
        raise InvalidInput("The anchor is damaged.")
    try:
        check(found, public_key, installation_id)
    except Corrupt:
        raise InvalidInput("The anchor is not genuine: its signature does not verify.") from None
    return found


def _parsed(text: bytes) -> dict[str, Any]:
    wrong = InvalidInput("This is no anchor of an audit chain.")
    if len(text) > ANCHOR_MAX:
        raise wrong
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(values, dict) or values.get("format") != _FORMAT or values.get("version") != 1:
        raise wrong
    texts = all(isinstance(values.get(name), str) for name in ("installation", "hash", "signature"))
    numbers = all(type(values.get(name)) is int and 0 <= values[name] <= _NUMBER_MAX for name in ("number", "time"))
    if not (texts and numbers):
        raise InvalidInput("The anchor is damaged.")
    return values


def _message(kind: str, installation_id: str, number: int, hashed: bytes, *more: int) -> bytes:
    fields = [f"cleanmail audit {kind}", installation_id, number, hashed.hex(), *more]
    return json.dumps(fields, separators=(",", ":")).encode("ascii")
