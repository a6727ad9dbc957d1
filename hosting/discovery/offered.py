"""What clients are told of this installation: the same for all of its domains. Made of the configuration, pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from gateway.dns.names import normal
from hosting.config import Config
from storage.queue.sts import StsMode
from storage.values import Domain, EmailAddress

DAV_PATH = "/dav/"
SHORT_NAME_MAX = 20  # what the drafts of autoconfig and PACC allow for a short name

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Offered:
    """Ports are those that clients reach; 0: not offered. `sts` is None where no MTA-STS policy is served."""

    host: str  # the name that clients connect to and the certificate carries
    provider: str  # how programs call the account
    imaps: int = 993
    imap: int = 143
    submissions: int = 465
    submission: int = 587
    https: int = 443
    help: str = ""  # the address of a page, or nothing
    exchangers: tuple[str, ...] = ()  # names of the MX hosts
    sts: StsMode | None = StsMode.TESTING
    sts_max_age: int = 7 * _DAY

    @classmethod
    def of(cls, config: Config) -> Offered:
        told, host = config.discovery, normal(config.server.name) or config.server.name
        ports = {
            name: getattr(config.listen, name) if getattr(told, name) < 0 else getattr(told, name)
            for name in ("imaps", "imap", "submissions", "submission", "https")
        }
        return cls(
            host,
            told.provider or host,
            **ports,
            help=told.help,
            exchangers=tuple(Domain.parse(name).name for name in config.mail.exchangers) or (host,),
            sts=None if told.mta_sts == "off" else StsMode(told.mta_sts),
            sts_max_age=told.mta_sts_days * _DAY,
        )

    @property
    def short_name(self) -> str:
        return self.provider if len(self.provider) <= SHORT_NAME_MAX else ""

    @property
    def origin(self) -> str:
        return f"https://{self.host}" + ("" if self.https in (0, 443) else f":{self.https}")

    @property
    def dav_url(self) -> str:
        """Where calendars and contacts are found; empty where HTTPS is not offered."""
        return f"{self.origin}{DAV_PATH}" if self.https else ""

    @property
    def incoming(self) -> tuple[tuple[int, bool], ...]:
        """Ports of IMAP, the best first, and whether TLS comes first there (RFC 8314 §3)."""
        return tuple((port, first) for port, first in ((self.imaps, True), (self.imap, False)) if port)

    @property
    def outgoing(self) -> tuple[tuple[int, bool], ...]:
        """Likewise of submission."""
        return tuple((port, first) for port, first in ((self.submissions, True), (self.submission, False)) if port)


def principal_path(address: EmailAddress) -> str:
    return f"{DAV_PATH}principals/{quote(str(address), safe='@')}/"
