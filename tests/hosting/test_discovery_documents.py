"""What each kind of client is told, as it reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import plistlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from gateway.tls_policy import sts_text
from hosting import config, tls
from hosting.dav.xml import BadXml
from hosting.discovery import apple, mozilla, outlook, pacc, sts
from hosting.discovery.domains import HOSTS, Known, address_of, of_address, of_host, of_policy_host
from hosting.discovery.offered import Offered, principal_path
from hosting.discovery.signing import Signer
from storage.clock import FixedClock
from storage.errors import InvalidInput
from storage.queue.sts import StsMode
from storage.values import Domain, EmailAddress

DOMAIN = Domain.parse("example.test")
ALICE = EmailAddress.parse("alice@example.test")
OFFERED = Offered("mail.host.test", "Example & Söhne", help="https://host.test/help", exchangers=("mx.host.test",))
STARTTLS_ONLY = replace(OFFERED, imaps=0, submissions=0)
NO_DAV = replace(OFFERED, https=0)

A = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
REQUEST = (
    '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request>'
    "<EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema>"
    "</Request></Autodiscover>"
)


def servers(octets: bytes, name: str) -> list[dict[str, str]]:
    found = ElementTree.fromstring(octets).iter(name)
    return [{"type": each.get("type", ""), **{child.tag: child.text or "" for child in each}} for each in found]


# Mozilla


def test_autoconfig_names_every_server_the_best_first() -> None:
    made = mozilla.autoconfig(DOMAIN, OFFERED)
    assert servers(made, "incomingServer") == [
        {
            "type": "imap",
            "hostname": "mail.host.test",
            "port": port,
            "socketType": kind,
            "authentication": "password-cleartext",
            "username": "%EMAILADDRESS%",
        }
        for port, kind in (("993", "SSL"), ("143", "STARTTLS"))
    ]
    assert [(each["port"], each["socketType"]) for each in servers(made, "outgoingServer")] == [
        ("465", "SSL"),
        ("587", "STARTTLS"),
    ]
    root = ElementTree.fromstring(made)
    assert (root.tag, root.get("version")) == ("clientConfig", "1.1")
    provider = root.find("emailProvider")
    assert provider is not None and provider.get("id") == "example.test"
    assert [provider.findtext(name) for name in ("domain", "displayName", "displayShortName")] == [
        "example.test",
        "Example & Söhne",
        "Example & Söhne",
    ]
    # draft-ietf-mailmaint-autoconfig: calendars and address books stand beside the e-mail provider
    assert [(child.tag, child.get("type"), child.findtext("url")) for child in root][1:] == [
        ("addressbook", "carddav", "https://mail.host.test/dav/"),
        ("addressBook", "carddav", "https://mail.host.test/dav/"),
        ("calendar", "caldav", "https://mail.host.test/dav/"),
    ]


def test_autoconfig_leaves_out_what_is_not_offered() -> None:
    made = mozilla.autoconfig(DOMAIN, replace(STARTTLS_ONLY, https=0, help="", provider="x" * 21))
    assert [each["port"] for each in servers(made, "incomingServer")] == ["143"]
    assert [each["port"] for each in servers(made, "outgoingServer")] == ["587"]
    for absent in (b"calendar", b"addressbook", b"documentation", b"displayShortName"):
        assert absent not in made


# Outlook


def protocols(octets: bytes) -> dict[str, dict[str, str]]:
    accounts = ElementTree.fromstring(octets).findall(f".//{A}Account")
    assert len(accounts) == 1  # a second one is not read
    fields = [
        {child.tag.removeprefix(A): child.text or "" for child in each} for each in accounts[0].iter(f"{A}Protocol")
    ]
    return {each["Type"]: each for each in fields}


def test_autodiscover_has_all_protocols_in_one_account() -> None:
    found = protocols(outlook.autodiscover(OFFERED, ALICE))
    assert list(found) == ["IMAP", "SMTP", "CalDAV", "CardDAV"]
    assert found["IMAP"] == {
        "Type": "IMAP",
        "Server": "mail.host.test",
        "Port": "993",
        "DomainRequired": "off",
        "LoginName": "alice@example.test",
        "SPA": "off",
        "SSL": "on",
        "Encryption": "SSL",
        "AuthRequired": "on",
    }
    assert {each["SPA"] for each in found.values()} == {"off"}
    assert found["CalDAV"]["Server"] == "https://mail.host.test/dav/"


def test_autodiscover_by_starttls_and_without_an_address() -> None:
    found = protocols(outlook.autodiscover(STARTTLS_ONLY, None))
    assert (found["IMAP"]["Port"], found["SMTP"]["Port"]) == ("143", "587")
    assert {found[kind]["Encryption"] for kind in ("IMAP", "SMTP")} == {"TLS"}
    assert all("LoginName" not in each for each in found.values())
    assert list(protocols(outlook.autodiscover(NO_DAV, ALICE))) == ["IMAP", "SMTP"]


def test_autodiscover_requests_are_read_whatever_their_namespaces() -> None:
    asked = outlook.read(REQUEST.format(address=" alice@example.test ", schema=outlook.OUTLOOK).encode())
    assert asked == outlook.Asked("alice@example.test", outlook.OUTLOOK) and asked.is_for_outlook
    bare = b"<autodiscover><request><emailaddress>a@b.test</emailaddress></request></autodiscover>"
    assert outlook.read(bare) == outlook.Asked("a@b.test", "") and outlook.read(bare).is_for_outlook
    phone = REQUEST.format(address="a@b.test", schema=outlook.OUTLOOK.replace("outlook", "mobilesync")).encode()
    assert not outlook.read(phone).is_for_outlook
    assert outlook.read(b"<x/>").address == ""


@pytest.mark.parametrize("body", [b"", b"<a>", b"a@b.test", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a>" * 70])
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(BadXml):
        outlook.read(body)


def test_autodiscover_errors_are_as_exchange_writes_them() -> None:
    made = outlook.error(outlook.NO_PROVIDER, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    [error] = ElementTree.fromstring(made).iter("{%s}Error" % outlook._ANSWER)  # noqa: UP031
    assert (error.get("Time"), error[0].text) == ("03:04:05.000000", "601")


@pytest.mark.parametrize(
    ("protocol", "status", "told"),
    [
        ("AutodiscoverV1", 200, "https://mail.host.test:8443/autodiscover/autodiscover.xml"),
        ("autodiscoverv1", 200, "https://mail.host.test:8443/autodiscover/autodiscover.xml"),
        ("ActiveSync", 400, "InvalidProtocol"),
        ("", 400, "MandatoryParameterMissing"),
    ],
)
def test_autodiscover_json(protocol: str, status: int, told: str) -> None:
    answered, body = outlook.autodiscover_json(replace(OFFERED, https=8443), protocol)
    assert answered == status and told in json.loads(body).values()


# Apple


def payloads(octets: bytes) -> dict[str, dict[str, Any]]:
    return {each["PayloadType"]: each for each in plistlib.loads(octets)["PayloadContent"]}


def test_a_profile_sets_up_mail_calendars_and_contacts() -> None:
    made = apple.profile(DOMAIN, OFFERED, ALICE)
    whole, found = plistlib.loads(made), payloads(made)
    assert whole["PayloadType"] == "Configuration" and whole["PayloadOrganization"] == "Example & Söhne"
    mail = found["com.apple.mail.managed"]
    assert (mail["EmailAddress"], mail["EmailAccountType"]) == ("alice@example.test", "EmailTypeIMAP")
    for side, port in (("Incoming", 993), ("Outgoing", 465)):
        assert mail[f"{side}MailServerHostName"] == "mail.host.test"
        assert mail[f"{side}MailServerPortNumber"] == port and mail[f"{side}MailServerUseSSL"] is True
        assert mail[f"{side}MailServerUsername"] == "alice@example.test"
    for kind in ("CalDAV", "CardDAV"):
        dav = found[f"com.apple.{kind.lower()}.account"]
        assert (dav[f"{kind}HostName"], dav[f"{kind}Port"], dav[f"{kind}UseSSL"]) == ("mail.host.test", 443, True)
        assert dav[f"{kind}PrincipalURL"] == "/dav/principals/alice@example.test/"
    assert b"assword</key>\n\t<string>" not in made


def test_identities_of_profiles_are_stable_and_their_own() -> None:
    def identities(domain: Domain, address: EmailAddress | None) -> list[str]:
        made = apple.profile(domain, OFFERED, address)
        return [plistlib.loads(made)["PayloadUUID"], *(each["PayloadUUID"] for each in payloads(made).values())]

    bob = EmailAddress.parse("bob@example.test")
    same = EmailAddress.parse("ALICE@example.test")
    assert identities(DOMAIN, ALICE) == identities(DOMAIN, same)
    every = [identity for address in (ALICE, bob, None) for identity in identities(DOMAIN, address)]
    assert len(set(every)) == len(every) == 12


def test_a_profile_without_an_address_lets_the_device_ask_for_it() -> None:
    found = payloads(apple.profile(DOMAIN, OFFERED))
    assert "EmailAddress" not in found["com.apple.mail.managed"]
    assert "CalDAVUsername" not in found["com.apple.caldav.account"]
    assert list(payloads(apple.profile(DOMAIN, NO_DAV, ALICE))) == ["com.apple.mail.managed"]


@given(st.text(max_size=30))
def test_addresses_that_are_repeated_make_documents_that_can_be_read(local: str) -> None:
    try:
        address = address_of(f"{local}@example.test")
    except InvalidInput:
        return
    assert payloads(apple.profile(DOMAIN, OFFERED, address))["com.apple.mail.managed"]["EmailAddress"] == str(address)
    assert protocols(outlook.autodiscover(OFFERED, address))["IMAP"]["LoginName"] == str(address)
    assert principal_path(address).isascii()


def test_profiles_are_signed_with_the_chain(tmp_path: Path) -> None:
    tls.make_self_signed(tmp_path, ["mail.host.test"])
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    signed = Signer(certificate, key).signed(b"<plist/>\n")
    assert b"<plist/>\n" in signed  # inside, with its line ends as they were
    names = [each.subject.rfc4514_string() for each in pkcs7.load_der_pkcs7_certificates(signed)]
    assert len(names) == 2 and "CN=mail.host.test" in names


def test_a_key_that_cannot_sign_leaves_profiles_as_they_are(tmp_path: Path) -> None:
    tls.make_self_signed(tmp_path, ["mail.host.test"])
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    signer = Signer(certificate, key)
    assert signer.signed(b"a") != b"a"
    other: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    for other in (ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
        key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        assert signer.signed(b"a") == b"a"
    key.unlink()
    assert signer.signed(b"a") == b"a"


# PACC and MTA-STS


def test_pacc_names_what_stands_on_its_ports() -> None:
    whole = json.loads(pacc.document(OFFERED))
    host, dav = {"host": "mail.host.test"}, {"url": "https://mail.host.test/dav/"}
    assert whole["protocols"] == {"imap": host, "smtp": host, "submit": host, "caldav": dav, "carddav": dav}
    assert whole["authentication"] == {"password": True}
    assert whole["info"]["help"] == {"documentation": "https://host.test/help"}
    assert json.loads(pacc.document(replace(OFFERED, imaps=10993, submissions=0, https=8443)))["protocols"] == {}


def test_the_digest_in_dns_is_that_of_the_document() -> None:
    for offered in (OFFERED, NO_DAV):
        digest = hashlib.sha256(pacc.document(offered)).digest()
        assert pacc.record(offered) == f"v=UAAC1; a=sha256; d={base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("mode", list(StsMode))
def test_our_policy_is_read_as_it_is_meant(mode: StsMode) -> None:
    offered = replace(OFFERED, sts=mode, exchangers=("mx1.host.test", "mx2.host.test"))
    text = sts.policy(offered)
    assert text is not None
    assert sts_text.parse(text) == sts_text.PolicyText(mode, 7 * 86400, ("mx1.host.test", "mx2.host.test"))
    assert sts.policy(replace(OFFERED, sts=None)) is None


# Configuration


def test_public_ports_go_before_those_that_are_listened_on() -> None:
    offered = Offered.of(
        config.parse(
            '[server]\nhostname = "mail.host.test"\n[listen]\nimaps = 1993\nimap = 0\nhttps = 8443\n'
            '[discovery]\nimaps = 993\nsubmission = 0\nmta_sts = "off"\nmta_sts_days = 30\nprovider = "Haus"\n'
            '[mail]\nexchangers = ["MX.host.test"]\n'
        )
    )
    assert (offered.imaps, offered.imap, offered.submissions, offered.submission) == (993, 0, 465, 0)
    assert offered.dav_url == "https://mail.host.test:8443/dav/" and offered.provider == "Haus"
    assert (offered.sts, offered.sts_max_age, offered.exchangers) == (None, 30 * 86400, ("mx.host.test",))
    assert Offered.of(config.parse('[server]\nhostname = "mail.host.test"\n')).exchangers == ("mail.host.test",)


@pytest.mark.parametrize(
    "line",
    ['provider = "a\\nb"', f'provider = "{"x" * 61}"', 'help = "http://host.test/"', 'mta_sts = "on"', "imap = -2"],
)
def test_mistakes_in_the_configuration(line: str) -> None:
    with pytest.raises(InvalidInput, match=line.partition(" ")[0]):
        config.parse(f"[discovery]\n{line}\n")


# Which domain


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("example.test", ["example.test"]),
        ("AutoConfig.Example.TEST.:8443", ["example.test", "autoconfig.example.test"]),
        ("mta-sts.example.test", ["example.test", "mta-sts.example.test"]),
        ("xn--mnchen-3ya.test", ["xn--mnchen-3ya.test"]),
        ("autoconfig.test", ["autoconfig.test"]),
        *((bad, []) for bad in ("", "localhost", "192.0.2.1:80", "[2001:db8::1]:443", "a b.test", "x" * 300)),
    ],
)
def test_domains_of_hosts(host: str, names: list[str]) -> None:
    assert [domain.name for domain in of_host(host)] == names


def test_the_policy_is_found_at_one_name_only() -> None:
    assert of_policy_host("mta-sts.example.test") == [DOMAIN]
    assert of_policy_host("example.test") == of_policy_host("autoconfig.example.test") == of_policy_host("") == []


@given(st.text(max_size=400))
def test_whatever_a_stranger_sends_is_a_domain_or_none(text: str) -> None:
    for host in HOSTS:
        assert all(isinstance(domain, Domain) for domain in (*of_host(host + text), *of_policy_host(host + text)))
    found = of_address(f"alice@{text}")
    assert found is None or found.name.isascii()
    assert of_address("%EMAILADDRESS%@example.test") == DOMAIN and of_address(text.replace("@", "")) is None


def test_what_is_known_is_remembered_for_a_while_and_bounded() -> None:
    clock = FixedClock()
    known = Known(lambda domain: domain == DOMAIN, clock)
    assert known.recall(DOMAIN) is None
    known.keep(DOMAIN, True)
    assert known.recall(DOMAIN) is True
    clock.advance(31)
    assert known.recall(DOMAIN) is None
    for number in range(5000):
        known.keep(Domain(f"d{number}.test"), False)
    assert len(known._known) == 4096 and known.recall(Domain("d4999.test")) is False
