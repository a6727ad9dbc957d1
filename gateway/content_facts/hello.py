"""What is remarkable about the name by which a client introduces itself. Pure, never fails.

Standards: RFC 5321 §4.1.1.1 and §4.1.3 (names and address literals), RFC 1912 §2.1 (names that lead back).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\Z")
_LOCAL = (
    "localhost",
    "localdomain",
    "local",
    "lan",
    "internal",
    "home",
    "workgroup",
    "invalid",
    "home.arpa",
)
# Providers whose servers have names that lead back to them: what they send for, what their servers are called.
_PROVIDERS = (
    (("gmail.com", "google.com", "googlemail.com"), ("google.com", "1e100.net", "googleusercontent.com")),
    (("outlook.com", "hotmail.com", "live.com", "msn.com", "microsoft.com"), ("outlook.com", "microsoft.com")),
    (("yahoo.com", "yahoo.co.uk", "ymail.com", "aol.com"), ("yahoo.com", "yahoodns.net", "aol.com")),
    (("icloud.com", "me.com", "mac.com", "apple.com"), ("icloud.com", "apple.com", "me.com", "mac.com")),
    (("amazon.com", "amazonses.com"), ("amazon.com", "amazonses.com", "amazonaws.com")),
    (("facebook.com", "facebookmail.com"), ("facebook.com", "facebookmail.com", "fb.com")),
    (("gmx.de", "gmx.net", "gmx.com", "web.de"), ("gmx.net", "gmx.de", "gmx.com", "web.de", "kundenserver.de")),
    (("t-online.de",), ("t-online.de",)),
)
_WORDS_OF_LINES = re.compile(
    r"(?:^|[.\-_0-9])(?:a?dsl|cable|dhcp|dial|dialup|dyn|dynamic|dip|ppp|pppoe|pool|ppool)[0-9]*[.\-_]"
)


class HelloFinding(StrEnum):
    sentence: str

    def __new__(cls, name: str, sentence: str) -> HelloFinding:
        finding = str.__new__(cls, name)
        finding._value_ = name
        finding.sentence = sentence
        return finding

    EMPTY = "empty", "The client did not introduce itself."
    MALFORMED = "malformed", "The client introduces itself by something that is no name."
    BARE_WORD = "bare-word", "The client introduces itself by a word that is no full name."
    LOCAL_NAME = "local-name", "The client introduces itself by a name that means something only at its own place."
    BARE_ADDRESS = "bare-address", "The client introduces itself by an address without brackets."
    OTHER_ADDRESS = "other-address", "The client introduces itself by an address that is not its own."
    OUR_NAME = "our-name", "The client introduces itself by this server's name."
    OUR_ADDRESS = "our-address", "The client introduces itself by this server's address."
    FORGED = "forged", "The client introduces itself as a large provider's server, and is none of them."
    NO_REVERSE_NAME = "no-reverse-name", "The client's address has no name that leads back to it."
    CUSTOMER_LINE = "customer-line", "The client's name is that of a customer's line, not of a server."


def hello_findings(
    hello: str,
    client_address: str,
    reverse_name: str | None,
    hostname: str,
    own_addresses: Collection[str] = (),
) -> frozenset[HelloFinding]:
    """`reverse_name`: what DNS knows the client as, both ways; "": nothing; None: not known, nothing is said of it."""
    client = _address(client_address)
    found: set[HelloFinding] = set()
    if reverse_name == "":
        found.add(HelloFinding.NO_REVERSE_NAME)
    elif reverse_name and _is_of_a_line(reverse_name.lower().rstrip("."), client):
        found.add(HelloFinding.CUSTOMER_LINE)
    hello = hello.strip().lower()
    if not hello:
        found.add(HelloFinding.EMPTY)
    elif (bare := _address(hello)) is not None:
        found.add(HelloFinding.BARE_ADDRESS)
        found |= _of_address(bare, client, own_addresses)
    elif hello.startswith("["):
        literal = _address(hello[1:-1].removeprefix("ipv6:")) if hello.endswith("]") else None
        found |= {HelloFinding.MALFORMED} if literal is None else _of_address(literal, client, own_addresses)
    else:
        found |= _of_name(hello.removesuffix("."), reverse_name, hostname.lower().rstrip("."))
    return frozenset(found)


def _of_address(
    said: IPv4Address | IPv6Address, client: IPv4Address | IPv6Address | None, own: Collection[str]
) -> set[HelloFinding]:
    if said == client:
        return set()  # also where it is ours: a client on this machine
    if any(said == _address(each) for each in own):
        return {HelloFinding.OUR_ADDRESS}
    return {HelloFinding.OTHER_ADDRESS} if client is not None else set()


def _of_name(name: str, reverse_name: str | None, hostname: str) -> set[HelloFinding]:
    if len(name) > 255 or not name.isascii() or not _NAME.match(name):
        return {HelloFinding.MALFORMED}
    found: set[HelloFinding] = set()
    if name == hostname:
        found.add(HelloFinding.OUR_NAME)
    if any(_is_within(name, local) for local in _LOCAL):
        found.add(HelloFinding.LOCAL_NAME)
    elif "." not in name:
        found.add(HelloFinding.BARE_WORD)
    elif name.rpartition(".")[2].isdigit():
        found.add(HelloFinding.MALFORMED)  # no top-level domain is a number
    if reverse_name is not None:
        reverse = reverse_name.lower().rstrip(".")
        for names, servers in _PROVIDERS:
            if any(_is_within(name, each) for each in names) and not any(_is_within(reverse, each) for each in servers):
                found.add(HelloFinding.FORGED)
    return found


def _is_of_a_line(name: str, client: IPv4Address | IPv6Address | None) -> bool:
    """Names that providers generate: with words for lines, or with the address in them, unless they say "mail"."""
    labels = re.split(r"[.\-_]", name)
    if any(label.startswith(("mail", "smtp", "mx", "mta", "static", "relay", "out")) for label in labels):
        return False
    if _WORDS_OF_LINES.search(name):
        return True
    if not isinstance(client, IPv4Address):
        return False
    octets = str(client).split(".")
    numbers = [number.lstrip("0") or "0" for number in re.findall(r"\d+", name)]
    hexadecimal = f"{int(client):08x}"
    return hexadecimal in name or sum(octet in numbers for octet in set(octets)) == len(set(octets)) >= 3


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
