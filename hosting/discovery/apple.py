"""Apple's configuration profile: one file that sets up mail, calendars and contacts on a Mac, iPhone or iPad. Pure.

Its UUIDs are derived from domain and address, so that the same profile replaces itself instead of standing beside
itself. Passwords are not in it; the device asks for them, and for the address where none is given.

Standards: Apple's Device Management (com.apple.mail.managed, com.apple.caldav.account, com.apple.carddav.account).
"""

from __future__ import annotations

import plistlib
import uuid
from typing import Any

from hosting.discovery.offered import Offered, principal_path
from storage.values import Domain, EmailAddress

PATH = "/apple.mobileconfig"
MEDIA_TYPE = "application/x-apple-aspen-config"

_NAMESPACE = uuid.UUID("6d0f2d0e-8c0b-5c0e-9d55-3f0d1b5b7a10")  # of our profiles; never another one


def profile(domain: Domain, offered: Offered, address: EmailAddress | None = None) -> bytes:
    made = _Profile(domain, offered, address)
    content = [made.mail()] if offered.incoming and offered.outgoing else []
    if offered.https:
        content += [made.dav("CalDAV", "calendars"), made.dav("CardDAV", "contacts")]
    described = "Sets up mail, calendars and contacts."
    whole = made.payload("Configuration", "profile", str(address or domain), described)
    whole |= {
        "PayloadContent": content,
        "PayloadOrganization": offered.provider,
        "PayloadRemovalDisallowed": False,
    }
    return plistlib.dumps(whole)


class _Profile:
    def __init__(self, domain: Domain, offered: Offered, address: EmailAddress | None) -> None:
        self._offered = offered
        self._address = address
        self._subject = f"{offered.host}/{domain}/{address.key if address is not None else ''}"

    def payload(self, kind: str, part: str, name: str, description: str) -> dict[str, Any]:
        identity = uuid.uuid5(_NAMESPACE, f"{self._subject}/{part}")
        reversed_host = ".".join(reversed(self._offered.host.split(".")))
        return {
            "PayloadType": kind,
            "PayloadVersion": 1,
            "PayloadIdentifier": f"{reversed_host}.{part}.{identity}",
            "PayloadUUID": str(identity).upper(),
            "PayloadDisplayName": name,
            "PayloadDescription": description,
        }

    def mail(self) -> dict[str, Any]:
        offered = self._offered
        settings = self.payload("com.apple.mail.managed", "mail", "Mail", "IMAP and submission")
        settings |= {
            "EmailAccountDescription": offered.provider,
            "EmailAccountType": "EmailTypeIMAP",
            "OutgoingPasswordSameAsIncomingPassword": True,
        }
        for side, (port, _) in (("Incoming", offered.incoming[0]), ("Outgoing", offered.outgoing[0])):
            settings |= {
                f"{side}MailServerAuthentication": "EmailAuthPassword",
                f"{side}MailServerHostName": offered.host,
                f"{side}MailServerPortNumber": port,
                f"{side}MailServerUseSSL": True,  # STARTTLS too, by the port
            }
            if self._address is not None:
                settings[f"{side}MailServerUsername"] = str(self._address)
        if self._address is not None:
            settings["EmailAddress"] = str(self._address)
        return settings

    def dav(self, kind: str, part: str) -> dict[str, Any]:
        offered = self._offered
        settings = self.payload(f"com.apple.{kind.lower()}.account", part, part.capitalize(), kind)
        settings |= {
            f"{kind}AccountDescription": offered.provider,
            f"{kind}HostName": offered.host,
            f"{kind}Port": offered.https,
            f"{kind}UseSSL": True,
        }
        if self._address is not None:
            settings[f"{kind}Username"] = str(self._address)
            settings[f"{kind}PrincipalURL"] = principal_path(self._address)
        return settings
