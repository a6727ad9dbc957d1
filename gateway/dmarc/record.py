"""A DMARC policy record, read as tolerantly as the standard asks for: what is wrong or unknown in it is not there.

Never fails. Standards: RFC 9989 §4.7 (tags), §4.8 (grammar), §4.10.1 (records without a valid policy).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.dmarc.result import Policy

OCTETS_MAX = 8192  # of one record
_TAGS_MAX = 100

# The name of v= in any case, its value exactly, and in front of everything else.
_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+\Z")
_POLICIES = {policy.value: policy for policy in Policy}


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """`policy` None: what the record asks for cannot be said, and no DMARC is applied where it counts."""

    policy: Policy | None
    subdomains: Policy | None = None  # sp=
    nonexistent: Policy | None = None  # np=
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: Literal["y", "n", "u"] = "u"  # whether it is a public suffix; u: not said
    testing: bool = False


def find_record(texts: Iterable[bytes]) -> DmarcRecord | None:
    """The DMARC record among TXT records; None without one, and if there are several (§4.10, steps 2 and 6)."""
    found = [text for text in texts if _VERSION.match(text)]
    if len(found) != 1 or len(found[0]) > OCTETS_MAX:
        return None
    return read_record(found[0].decode("utf-8", "replace"))


def read_record(text: str) -> DmarcRecord:
    """Of a record that `find_record` took for one."""
    tags: dict[str, str] = {}
    for piece in text.split(";", _TAGS_MAX)[:_TAGS_MAX]:
        name, equals, value = piece.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    words = {name: value.lower() for name, value in tags.items()}
    policy = _POLICIES.get(words.get("p", ""))
    subdomains, nonexistent = _POLICIES.get(words.get("sp", "")), _POLICIES.get(words.get("np", ""))
    wrong = policy is None or ("sp" in words and not subdomains) or ("np" in words and not nonexistent)
    if wrong:
        reports = any(_URI.match(uri.strip()) for uri in tags.get("rua", "").split(","))
        policy, subdomains, nonexistent = Policy.NONE if reports else None, None, None
    psd = words.get("psd", "")
    return DmarcRecord(
        policy,
        subdomains,
        nonexistent,
        strict_dkim=words.get("adkim") == "s",
        strict_spf=words.get("aspf") == "s",
        psd="y" if psd == "y" else "n" if psd == "n" else "u",
        testing=words.get("t") == "y",
    )
