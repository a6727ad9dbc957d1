"""Mozilla's autoconfig: what Thunderbird, K-9, Evolution, KMail, FairEmail and Delta Chat look for. Pure.

%EMAILADDRESS% is what the client puts its address for, so that nothing of an address has to be in the answer.

Standards: draft-ietf-mailmaint-autoconfig (config-v1.1.xml, with its elements for calendars and address books).
"""

from __future__ import annotations

from hosting.discovery.markup import document, element
from hosting.discovery.offered import Offered
from storage.values import Domain

PATHS = ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml")
MEDIA_TYPE = "application/xml"  # Thunderbird reads nothing but text/xml, application/xml and text/rdf
ADDRESS = "%EMAILADDRESS%"


def autoconfig(domain: Domain, offered: Offered) -> bytes:
    provider = [
        element("domain", domain.name),
        element("displayName", offered.provider[:60]),
        *([element("displayShortName", offered.short_name)] if offered.short_name else []),
        *(_mail("incomingServer", "imap", offered.host, port, first) for port, first in offered.incoming),
        *(_mail("outgoingServer", "smtp", offered.host, port, first) for port, first in offered.outgoing),
    ]
    if offered.help:
        descr = element("descr", "How to set up programs for mail, calendars and contacts", lang="en")
        provider.append(element("documentation", [descr], url=offered.help))
    # The address book under its name in the draft and under that in Mozilla's older description of the format.
    kinds = (("addressbook", "carddav"), ("addressBook", "carddav"), ("calendar", "caldav"))
    dav = [_dav(name, protocol, offered.dav_url) for name, protocol in kinds if offered.dav_url]
    root = element("clientConfig", [element("emailProvider", provider, id=domain.name), *dav], version="1.1")
    return document(root)


def _mail(name: str, protocol: str, host: str, port: int, tls_first: bool) -> str:
    return element(
        name,
        [
            element("hostname", host),
            element("port", port),
            element("socketType", "SSL" if tls_first else "STARTTLS"),
            element("authentication", "password-cleartext"),
            element("username", ADDRESS),
        ],
        type=protocol,
    )


def _dav(name: str, protocol: str, url: str) -> str:
    """With the words of both descriptions; clients take the first that they know and pass the others by."""
    return element(
        name,
        [
            element("url", url),
            element("serverURL", url),
            element("authentication", "basic"),
            element("authentication", "http-basic"),
            element("username", ADDRESS),
        ],
        type=protocol,
    )
