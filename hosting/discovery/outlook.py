"""Outlook's Autodiscover: plain old XML, and the JSON that tells where that is. Pure.

All blocks Protocol stand in one Account, and SPA is said to be off: a block that does not say so means on. The login
name is repeated from the request, and nothing else of it.

Raises: BadXml.
Standards: MS-OXDSCLI §2.2.3, §2.2.4 (requests and answers), §2.2.4.1.1.1 (errors); Autodiscover version 2 as observed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from hosting.dav import xml
from hosting.discovery.markup import document, element
from hosting.discovery.offered import Offered
from storage.values import EmailAddress

PATH = "/autodiscover/autodiscover.xml"
JSON_PATHS = ("/autodiscover/autodiscover.json", "/autodiscover/autodiscover.json/v1.0/{address}")
BODY_MAX = 64 * 1024
MEDIA_TYPE = "application/xml"

OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_ANSWER = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
INVALID_REQUEST, NO_PROVIDER = 600, 601
_MESSAGES = {INVALID_REQUEST: "Invalid Request", NO_PROVIDER: "Provider is not available"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request names; empty where it names nothing."""

    address: str
    schema: str

    @property
    def is_for_outlook(self) -> bool:
        """Other schemas are those of Exchange ActiveSync, which is not spoken here."""
        return not self.schema or self.schema.lower() == OUTLOOK


def read(body: bytes) -> Asked:
    """Names are compared without their namespaces, which clients do not agree about. Raises BadXml."""
    root = xml.parse(body)
    found: dict[str, str] = {}
    for request in root:
        for child in request:
            found.setdefault(_local(child.name), child.text.strip())
    return Asked(found.get("emailaddress", ""), found.get("acceptableresponseschema", ""))


def _local(name: str) -> str:
    return name.rpartition("}")[2].lower()


def autodiscover(offered: Offered, address: EmailAddress | None) -> bytes:
    login = [element("LoginName", str(address))] if address is not None else []
    protocols = [_mail("IMAP", offered.host, *server, login) for server in offered.incoming[:1]]
    protocols += [
        _mail("SMTP", offered.host, *server, login, (element("UsePOPAuth", "off"), element("SMTPLast", "off")))
        for server in offered.outgoing[:1]
    ]
    if offered.dav_url:
        protocols += [_dav(kind, offered, login) for kind in ("CalDAV", "CardDAV")]
    account = element("Account", [element("AccountType", "email"), element("Action", "settings"), *protocols])
    user = [element("User", [element("DisplayName", str(address))])] if address is not None else []
    response = element("Response", [*user, account], xmlns=OUTLOOK)
    return document(element("Autodiscover", [response], xmlns=_ANSWER))


def error(code: int, now: datetime) -> bytes:
    """As Exchange says it: in an answer of status 200."""
    inner = [element("ErrorCode", code), element("Message", _MESSAGES[code]), element("DebugData")]
    told = element("Error", inner, Time=now.strftime("%H:%M:%S.%f"), Id="0")
    return document(element("Autodiscover", [element("Response", [told])], xmlns=_ANSWER))


def _mail(kind: str, host: str, port: int, tls_first: bool, login: list[str], more: tuple[str, ...] = ()) -> str:
    return element(
        "Protocol",
        [
            element("Type", kind),
            element("Server", host),
            element("Port", port),
            element("DomainRequired", "off"),
            *login,
            element("SPA", "off"),
            element("SSL", "on"),
            element("Encryption", "SSL" if tls_first else "TLS"),  # TLS: Outlook's word for STARTTLS
            element("AuthRequired", "on"),
            *more,
        ],
    )


def _dav(kind: str, offered: Offered, login: list[str]) -> str:
    """Outlook passes these by; programs that read Autodiscover for calendars know them."""
    return element(
        "Protocol",
        [
            element("Type", kind),
            element("Server", offered.dav_url),
            element("DomainRequired", "off"),
            *login,
            element("SPA", "off"),
            element("AuthRequired", "on"),
        ],
    )


def autodiscover_json(offered: Offered, protocol: str) -> tuple[int, bytes]:
    """Status and body: where the XML is; no other protocol of Microsoft's is spoken here."""
    if protocol.lower() == "autodiscoverv1":
        return 200, _json({"Protocol": "AutodiscoverV1", "Url": f"{offered.origin}{PATH}"})
    if not protocol:
        told = {"ErrorCode": "MandatoryParameterMissing", "ErrorMessage": "The parameter 'Protocol' is missing."}
    else:
        told = {
            "ErrorCode": "InvalidProtocol",
            "ErrorMessage": "The protocol is not known here. Supported values are 'AutodiscoverV1'.",
        }
    return 400, _json(told)


def _json(value: dict[str, str]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
