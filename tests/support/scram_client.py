"""A SCRAM-SHA-256 client (RFC 5802, RFC 7677), written from the RFC and not from our server."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field


def _nonce() -> str:
    return secrets.token_urlsafe(18)


@dataclass
class ScramClient:
    """`flag` and `channel` are what it says of channel binding; `acting_as` is an authorization identity."""

    login: str
    password: str
    flag: str = "n"
    channel: bytes = b""
    acting_as: str = ""
    nonce: str = field(default_factory=_nonce)
    extension: str = ""
    salt: bytes = b""
    rounds: int = 0
    _said: str = ""

    @property
    def header(self) -> str:
        return f"{self.flag},{'a=' + _name(self.acting_as) if self.acting_as else ''},"

    @property
    def bare(self) -> str:
        return f"{self.extension}n={_name(self.login)},r={self.nonce}"

    def first(self) -> bytes:
        return (self.header + self.bare).encode()

    def final(self, challenge: bytes) -> bytes:
        fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
        assert fields["r"].startswith(self.nonce)
        assert len(fields["r"]) > len(self.nonce) + 16
        self.salt, self.rounds = b64decode(fields["s"]), int(fields["i"])
        return self.proof(challenge, fields["r"])

    def proof(self, challenge: bytes, nonce: str) -> bytes:
        binding = b64encode(self.header.encode() + self.channel).decode()
        without = f"c={binding},r={nonce}"
        self._said = f"{self.bare},{challenge.decode()},{without}"
        client_key = hmac.digest(self._salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), self._said.encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{without},p={b64encode(proof).decode()}".encode()

    def believes(self, last: bytes) -> bool:
        """Whether the server proved that it knows the password."""
        server_key = hmac.digest(self._salted, b"Server Key", "sha256")
        return last == b"v=" + b64encode(hmac.digest(server_key, self._said.encode(), "sha256"))

    @property
    def _salted(self) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.rounds)


def _name(text: str) -> str:
    return text.replace("=", "=3D").replace(",", "=2C")
