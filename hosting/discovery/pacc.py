"""The document of PACC, and the text by which DNS vouches for its octets. Pure.

It names servers only where they listen on the ports that PACC fixes, since it has no place for others. It is the same
for every domain, so that one digest is right for all.

Standards: draft-ietf-mailmaint-pacc-02 and -03, which differ in the name of submission: both stand in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from hosting.discovery.offered import Offered

PATH = "/.well-known/user-agent-configuration.json"
MEDIA_TYPE = "application/json"


def document(offered: Offered) -> bytes:
    protocols: dict[str, dict[str, str]] = {}
    if offered.imaps == 993:
        protocols["imap"] = {"host": offered.host}
    if offered.submissions == 465:
        protocols["smtp"] = protocols["submit"] = {"host": offered.host}
    if offered.https == 443:
        protocols["caldav"] = protocols["carddav"] = {"url": offered.dav_url}
    provider = {"name": offered.provider[:60]}
    if offered.short_name:
        provider["shortName"] = offered.short_name
    info: dict[str, Any] = {"provider": provider}
    if offered.help:
        info["help"] = {"documentation": offered.help}
    whole = {"protocols": protocols, "authentication": {"password": True}, "info": info}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def record(offered: Offered) -> str:
    """The TXT record at _ua-auto-config.<domain>; it changes with the document."""
    digest = base64.b64encode(hashlib.sha256(document(offered)).digest()).decode()
    return f"v=UAAC1; a=sha256; d={digest}"
