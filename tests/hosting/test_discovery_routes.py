"""Discovery over sockets and TLS: who is answered, over which scheme, by which name; and that nobody can be tested."""

from __future__ import annotations

import asyncio
import json
import logging
import plistlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from dns_server import DnsServer
from starlette.routing import BaseRoute
from web_town import WebPlace, web_place

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.dns_records.policy import PolicyAnswer, ask_policy
from gateway.networks import Reachable, networks
from gateway.tls_policy.sts_fetch import StsFetcher
from hosting import config, tls
from hosting.discovery import outlook, pacc, sts
from hosting.discovery.offered import Offered
from hosting.discovery.routes import routes
from hosting.web.app import WebParts
from storage.values import Domain

CONFIG = config.parse('[server]\nhostname = "mail.host.test"\n')
CONFIG_XML = "/mail/config-v1.1.xml"
WELL_KNOWN = "/.well-known/autoconfig/mail/config-v1.1.xml"
POX = "/autodiscover/autodiscover.xml"
JSON = "/autodiscover/autodiscover.json"
PROFILE = "/apple.mobileconfig"
POLICY = "/.well-known/mta-sts.txt"

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPlace]:
    folder = tmp_path_factory.mktemp("discovery")

    def made(parts: WebParts) -> Sequence[BaseRoute]:
        return routes(replace(parts, config=CONFIG), folder)

    tls.make_self_signed(folder / "tls" / "names" / "example", ["mta-sts.example.test", "autoconfig.example.test"])
    with web_place(folder, routes=made) as running:
        yield running


def ask(
    place: WebPlace, path: str, host: str = "autoconfig.example.test", *, method: str = "GET", body: bytes | None = None
) -> Answer:
    return place.ask(method, path, {"Host": host}, body)


def plain(place: WebPlace, path: str, host: str, method: str = "GET") -> Answer:
    """Over HTTP."""
    client = place.http()
    try:
        client.request(method, path, headers={"Host": host})
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        client.close()


def posted(address: str, schema: str = outlook.OUTLOOK) -> bytes:
    return (
        '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request>'
        f"<EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema>"
        "</Request></Autodiscover>"
    ).encode()


# Mozilla


@pytest.mark.parametrize("path", [CONFIG_XML, WELL_KNOWN])
@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("autoconfig.example.test", ""),
        ("example.test:8443", "?emailaddress=alice%40example.test"),
        ("mail.host.test", "?emailaddress=alice@example.test"),  # the provider's name, a customer's address
        ("autoconfig.other.test", "?emailaddress=alice@example.test"),
        ("autoconfig.example.test", "?emailaddress=%25EMAILADDRESS%25"),
    ],
)
def test_autoconfig(place: WebPlace, path: str, host: str, query: str) -> None:
    status, fields, body = ask(place, path + query, host)
    assert status == 200 and fields["content-type"].startswith("application/xml")
    assert b"<domain>example.test</domain>" in body and b"alice" not in body
    assert plain(place, path + query, host)[::2] == (200, body)


def test_autoconfig_by_way_of_the_mx_record(place: WebPlace) -> None:
    """Programs ask at the domain of the MX host, with the customer's address or without one."""
    with_address = ask(place, f"{CONFIG_XML}?emailaddress=alice@example.test", "autoconfig.host.test")
    assert b"<domain>example.test</domain>" in with_address[2]
    assert b"<domain>host.test</domain>" in ask(place, CONFIG_XML, "autoconfig.host.test")[2]
    assert ask(place, f"{CONFIG_XML}?emailaddress=alice@host.test", "autoconfig.host.test")[0] == 404
    assert ask(place, POLICY, "mta-sts.host.test")[0] == 404


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (CONFIG_XML, "autoconfig.unknown.test"),
        (CONFIG_XML, "mail.host.test"),
        (CONFIG_XML, "127.0.0.1"),
        (f"{CONFIG_XML}?emailaddress=alice@unknown.test", "autoconfig.example.test"),
        (f"{POX}?email=alice@unknown.test", "example.test"),
        (f"{JSON}?Email=alice@unknown.test&Protocol=AutodiscoverV1", "example.test"),
        (f"{PROFILE}?email=alice@unknown.test", "example.test"),
        (pacc.PATH, "ua-auto-config.unknown.test"),
        (POLICY, "mta-sts.unknown.test"),
        (POLICY, "example.test"),
    ],
)
def test_a_domain_that_is_not_served_here(place: WebPlace, path: str, host: str) -> None:
    assert ask(place, path, host)[::2] == (404, b"This domain is not served here.\n")


def test_a_domain_counts_once_it_is_verified(place: WebPlace) -> None:
    control, domain = place.town.installation.control, Domain.parse("late.test")
    control.add_domain(place.town.accounts["alice@example.test"][0], domain)
    assert ask(place, CONFIG_XML, "autoconfig.late.test")[0] == 404
    control.verify_domain(domain, None)
    place.town.clock.advance(31)
    assert ask(place, CONFIG_XML, "autoconfig.late.test")[0] == 200


# Outlook


@pytest.mark.parametrize("path", [POX, "/Autodiscover/Autodiscover.xml", "/AUTODISCOVER/autodiscover.XML"])
def test_autodiscover_in_any_case(place: WebPlace, path: str) -> None:
    status, fields, body = ask(place, path, "autodiscover.example.test", method="POST", body=posted("bob@example.test"))
    assert status == 200 and fields["content-type"].startswith("application/xml")
    assert fields["cache-control"] == "no-store"
    assert body.count(b"<LoginName>bob@example.test</LoginName>") == 4
    assert b"LoginName" not in ask(place, path, "autodiscover.example.test")[2]
    assert ask(place, f"{path}?Email=bob@example.test", "mail.host.test")[2] == body


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (posted("bob@unknown.test"), 404, b"not served"),
        (posted("bob@example.test", outlook.OUTLOOK.replace("outlook", "mobilesync")), 200, b"<ErrorCode>601<"),
        (posted("bob"), 200, b"<ErrorCode>600<"),
        (posted("bob&#xFFFD;\x7f@example.test"), 200, b"<ErrorCode>600<"),
        (posted("b" * 300 + "@example.test"), 200, b"<ErrorCode>600<"),
        (b"<a", 200, b"<ErrorCode>600<"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', 200, b"<ErrorCode>600<"),
        (b" " * 65537, 413, b"larger"),
    ],
)
def test_autodiscover_requests_that_are_refused(place: WebPlace, body: bytes, status: int, told: bytes) -> None:
    answered, _, found = ask(place, POX, "autodiscover.example.test", method="POST", body=body)
    assert answered == status and told in found


def test_autodiscover_over_http_leads_to_our_own_name(place: WebPlace) -> None:
    status, fields, _ = plain(place, "/Autodiscover/Autodiscover.xml", "autodiscover.example.test")
    assert (status, fields["location"]) == (302, "https://mail.host.test/Autodiscover/Autodiscover.xml")
    assert plain(place, POX, "autodiscover.example.test", "POST")[0] == 307
    assert plain(place, POX, "autodiscover.unknown.test")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        f"{JSON}?Email=alice%40example.test&Protocol=AutodiscoverV1",
        "/AutoDiscover/autodiscover.json?email=alice@example.test&protocol=autodiscoverv1&RedirectCount=1",
        f"{JSON}/v1.0/alice%40example.test?Protocol=AutodiscoverV1",
    ],
)
def test_autodiscover_json(place: WebPlace, path: str) -> None:
    status, fields, body = ask(place, path, "mail.host.test")
    assert status == 200 and fields["content-type"] == "application/json"
    assert json.loads(body) == {"Protocol": "AutodiscoverV1", "Url": f"https://mail.host.test{POX}"}


def test_autodiscover_json_knows_no_other_protocol(place: WebPlace) -> None:
    path = f"{JSON}?Email=alice@example.test&Protocol="
    assert ask(place, path + "ActiveSync")[0] == ask(place, path)[0] == 400


# Apple


def test_a_profile_is_signed_and_goes_over_https_only(place: WebPlace) -> None:
    path = f"{PROFILE}?email=alice@example.test"
    status, fields, body = ask(place, path, "mail.host.test")
    assert status == 200 and fields["content-type"] == "application/x-apple-aspen-config"
    assert fields["content-disposition"] == 'attachment; filename="example.test.mobileconfig"'
    start, end = body.index(b"<?xml"), body.index(b"</plist>") + len(b"</plist>")
    assert start > 0 and plistlib.loads(body[start:end])["PayloadDisplayName"] == "alice@example.test"
    status, fields, _ = plain(place, path, "example.test")
    assert (status, fields["location"]) == (302, f"https://mail.host.test{path}")
    assert ask(place, PROFILE, "example.test")[0] == 200
    assert ask(place, f"{PROFILE}?email=alice", "example.test")[0] == 400


# PACC and MTA-STS


def test_the_document_of_pacc_is_the_one_that_dns_vouches_for(place: WebPlace) -> None:
    status, fields, body = ask(place, pacc.PATH, "ua-auto-config.example.test")
    assert (status, fields["content-type"]) == (200, "application/json")
    assert body == pacc.document(Offered.of(CONFIG)) == ask(place, pacc.PATH, "ua-auto-config.other.test")[2]


def test_the_policy_of_mta_sts(place: WebPlace) -> None:
    status, fields, body = ask(place, POLICY, "mta-sts.example.test")
    assert status == 200 and fields["content-type"].startswith("text/plain")
    assert body == b"version: STSv1\r\nmode: testing\r\nmx: mail.host.test\r\nmax_age: 604800\r\n"


def test_the_policy_is_fetched_as_other_servers_fetch_it(place: WebPlace) -> None:
    """By the customer's name, with a certificate for it that is chosen by SNI."""
    trusted = ssl.create_default_context(cafile=place.town.data / "tls" / "names" / "example" / "ca.pem")

    async def fetched(server: DnsServer) -> PolicyAnswer:
        dns = Resolver(DnsSettings(nameservers=("127.0.0.1",), port=server.port))
        fetcher = StsFetcher(dns, Reachable(networks(["127.0.0.0/8"])), trusted, port=place.https_port, limit=20.0)
        return await ask_policy(fetcher, Domain.parse("example.test"))

    zone = {"mta-sts.example.test": {"CNAME": "mail.host.test."}, "mail.host.test": {"A": "127.0.0.1"}}
    with DnsServer(zone) as server:
        answer = asyncio.run(fetched(server))
    assert answer.valid, answer.reason
    assert (answer.mode, answer.exchangers, answer.text) == (
        "testing",
        ("mail.host.test",),
        sts.policy(Offered.of(CONFIG)),
    )


# What strangers learn, and what is kept of them


def test_nobody_learns_whether_an_address_exists(place: WebPlace) -> None:
    def answers(address: str) -> list[Answer]:
        found = [
            ask(place, f"{CONFIG_XML}?emailaddress={address}"),
            ask(place, f"{POX}?email={address}"),
            ask(place, POX, method="POST", body=posted(address)),
            ask(place, f"{JSON}?Email={address}&Protocol=AutodiscoverV1"),
            ask(place, f"{JSON}/v1.0/{address}?Protocol=AutodiscoverV1"),
            ask(place, f"{PROFILE}?email={address}"),
        ]
        return [(status, {**fields, "date": ""}, body) for status, fields, body in found]

    alice, nobody = answers("alice@example.test"), answers("alixe@example.test")
    assert [status for status, _, _ in alice] == [200] * 6
    for (status, fields, body), (other_status, other_fields, other_body) in zip(alice, nobody, strict=True):
        assert status == other_status
        if not body.startswith(b"\x30"):  # a signature has random numbers and a time in it
            assert fields == other_fields and body.replace(b"alice", b"alixe") == other_body


def test_addresses_of_queries_are_never_logged(
    place: WebPlace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    token = "zebra7391"
    with caplog.at_level(logging.DEBUG):
        for domain in ("example.test", "unknown.test", "b%C3%BCcher.test", ""):
            query = f"{token}@{domain}"
            for path in (
                f"{CONFIG_XML}?emailaddress=",
                f"{POX}?email=",
                f"{JSON}?Email=",
                f"{JSON}/v1.0/",
                f"{PROFILE}?email=",
            ):
                assert ask(place, path + query)[0] < 500
                assert plain(place, path + query, "example.test")[0] < 500
            assert ask(place, POX, method="POST", body=posted(query))[0] < 500
    said = capfd.readouterr()
    assert token not in caplog.text + said.out + said.err
    logs = [path for path in Path(place.town.data).rglob("*") if path.is_file()]
    assert logs and all(token.encode() not in path.read_bytes() for path in logs)


@pytest.mark.parametrize(
    "path", [CONFIG_XML, POX, JSON, f"{JSON}/v1.0/\xff", PROFILE, f"{PROFILE}\xe9", pacc.PATH, POLICY]
)
@pytest.mark.parametrize("secure", [True, False])
def test_octets_that_no_client_sends_are_answered(place: WebPlace, path: str, secure: bool) -> None:
    for host in ("example.test", "mta-sts.example.test", "\xff\xfe.test", "%00", ""):
        client = socket.create_connection(("127.0.0.1", place.https_port if secure else place.http_port), timeout=20)
        if secure:
            client = place.client_tls.wrap_socket(client, server_hostname="localhost")
        target = f"{path}?email=\xff\xfe%00%ff%0d%0a@example.test&emailaddress=%f0%28@\xe4.test&%&=&protocol"
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        with client, client.makefile("rb") as answer:
            head, _, _ = answer.read().partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4")), head
        assert b"\r\nlocation: https://mail.host.test/" in head or b"\r\nlocation" not in head
    assert place.service.counters.failures == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PROPFIND"])
def test_other_methods(place: WebPlace, method: str) -> None:
    assert ask(place, CONFIG_XML, method=method)[0] == 405
    assert ask(place, CONFIG_XML, method="HEAD")[::2] == (200, b"")
