"""Certificates for tests, and a signer with a key of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from storage.certificates.certificate import (
    Certificate,
    Counts,
    HeldBack,
    KeysDestroyed,
    Remaining,
    Scope,
    Search,
    StepDone,
)
from storage.keys import signing
from storage.keys.signing import SigningPurpose

DAY = 86_400
BEGUN = 1_780_000_000
INSTALLATION = "c0ffee" * 5 + "00"
_STEPS = (
    "ordered",
    "fenced",
    "alone",
    "keys_destroyed",
    "moved",
    "rows_removed",
    "files_removed",
    "searched",
    "certified",
)


class Signer:
    def __init__(self, secret: bytes = bytes(32)) -> None:
        self._secret = secret

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        return signing.sign(self._secret, purpose, message)

    def verifying_key(self, purpose: SigningPurpose) -> bytes:
        return signing.verifying_key(self._secret, purpose)

    @property
    def public(self) -> bytes:
        return self.verifying_key("certificate")


def certificate(**changed: Any) -> Certificate:
    made = Certificate(
        certificate_id="5e1f0c2a9b7d4e60",
        installation_id=INSTALLATION,
        issuer="mail.provider.example",
        program="cleanmail 0.5.0",
        scope=Scope(12, None, "acme", ("acme.example", "xn--bcher-kva.example")),
        ordered_by="contract",
        begun=BEGUN,
        unreadable=BEGUN + 3,
        finished=BEGUN + 64,
        counts=Counts(23, 180_422, 161_011, 9_411_203_377, 4, 61, 112),
        keys=KeysDestroyed(
            key_ids=tuple(f"{number:032x}" for number in range(24)),
            at=BEGUN + 3,
            master_before=7,
            master_after=8,
            master_place="a file outside the data directory",
            old_master_destroyed=True,
            sanitization="clear",
            mirrors=("/srv/keys",),
            backups_until=BEGUN + 30 * DAY,
        ),
        steps=tuple(StepDone(step, BEGUN + number * 8) for number, step in enumerate(_STEPS)),
        search=Search(("control.db", "queue.db", "audit.db", "logs", "names of files"), 5120, 8_123_456_789, 140, 0),
        remaining=(
            Remaining("transcripts", "SMTP transcripts", "law", BEGUN + 365 * DAY),
            Remaining("access", "Access events: time, type and result", "interest", BEGUN + 365 * DAY),
            Remaining("customers", "Contracts and certificates of erasure", "law", BEGUN + 3653 * DAY),
            Remaining("audit", "Audit records, without their personal parts", "law", None),
        ),
        holds=(HeldBack("a1b2c3d4e5f60718", BEGUN - 90 * DAY, BEGUN - DAY),),
        processes_killed=0,
        processes_recycled=3,
    )
    return replace(made, **changed)
