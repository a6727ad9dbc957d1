"""Where things are for clients: the server's own name and port, and the way from HTTP to HTTPS."""

from __future__ import annotations

from dataclasses import dataclass

DAV = "/dav/"


@dataclass(frozen=True, slots=True)
class Places:
    hostname: str
    https_port: int
    plain_sign_in: bool  # passwords are taken without TLS

    @property
    def origin(self) -> str:
        """Of this server by its own name, which its certificate carries; never a name that a client brought."""
        port = "" if self.https_port in (0, 443) else f":{self.https_port}"
        return f"https://{self.hostname}{port}"

    def secure(self, raw_path: str, query: str = "") -> str:
        return f"{self.origin}{raw_path}" + (f"?{query}" if query else "")

    def dav(self, scheme: str) -> str:
        """What a client that looks for calendars or contacts is led to."""
        return DAV if scheme == "https" or self.plain_sign_in else self.secure(DAV)
