"""The records a domain should have, and their zone form as dnspython reads it."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dkim.keys import generate
from gateway.dns_records.wanted import Importance, Kind, Offer, Record, report_uri, spf_text, wanted
from gateway.dns_records.zone import txt_data, zone_text
from storage.directory.dkim_keys import DkimAlgorithm, DkimKey, DkimState
from storage.values import Domain, EmailAddress

DOMAIN = Domain.parse("example.org")
HOST = "mail.example.net"
OFFER = Offer(HOST, (HOST,), authorities=("letsencrypt.org",), agent="v=UAAC1; a=sha256; d=AAAA=")
PUBLIC = {algorithm: generate(algorithm).public_key for algorithm in DkimAlgorithm}


def key(state: DkimState, algorithm: DkimAlgorithm = DkimAlgorithm.RSA) -> DkimKey:
    return DkimKey(DOMAIN, f"{algorithm[0]}-{state}", algorithm, PUBLIC[algorithm], state, 0, 0)


def parsed(text: str) -> set[tuple[str, str, str]]:
    """(name, type, data) of the lines, with texts in one piece."""
    zone = dns.zone.from_text(text, origin="example.org.", relativize=False, check_origin=False)
    found = set()
    for name, _, rdata in zone.iterate_rdatas():
        kind = dns.rdatatype.to_text(rdata.rdtype)
        data = b"".join(rdata.strings).decode() if kind == "TXT" else rdata.to_text()
        found.add((name.to_text(omit_final_dot=True), kind, data))
    return found


def lines(records: list[Record]) -> set[tuple[str, str, str]]:
    return {(record.name, record.rdtype, record.value) for record in records}


def test_all_kinds_and_their_zone_form() -> None:
    keys = [key(DkimState.SIGNING), key(DkimState.SIGNING, DkimAlgorithm.ED25519), key(DkimState.RETIRED)]
    records = wanted(DOMAIN, OFFER, keys, ownership="0123", sts_id="abc")
    text = zone_text(records, ["a note"])
    assert parsed(text) == lines(records)
    assert {record.kind for record in records} == set(Kind) - {Kind.ADDRESS, Kind.REVERSE}
    assert text.endswith("\n; a note\n") and all(len(line) < 600 for line in text.splitlines())
    assert ("r-retired._domainkey.example.org", "TXT", "v=DKIM1; k=rsa; p=") in lines(records)
    assert ("_mta-sts.example.org", "TXT", "v=STSv1; id=abc") in lines(records)
    assert ("example.org", "CAA", '0 issue "letsencrypt.org"') in lines(records)


def test_columns_are_aligned() -> None:
    text = zone_text(wanted(DOMAIN, OFFER, [key(DkimState.MADE)]))
    assert len({line.index(" IN ") for line in text.splitlines() if " IN " in line}) == 1


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (Offer(HOST, (HOST,)), "v=spf1 mx ~all"),
        (Offer(HOST, ("mx1.example.net", "mx2.example.net")), f"v=spf1 mx a:{HOST} ~all"),
        (Offer(HOST, (HOST,), spf_include="_spf.example.net"), "v=spf1 include:_spf.example.net ~all"),
    ],
)
def test_spf(offer: Offer, text: str) -> None:
    assert spf_text(offer) == text


def test_exchangers_have_a_preference_in_their_order() -> None:
    records = wanted(DOMAIN, Offer(HOST, ("mx1.example.net", "mx2.example.net")))
    assert [record.value for record in records if record.kind is Kind.MX] == [
        "10 mx1.example.net.",
        "20 mx2.example.net.",
    ]


@pytest.mark.parametrize(
    ("states", "policy"),
    [
        ([], "none"),
        ([DkimState.MADE, DkimState.RETIRING], "none"),
        ([DkimState.SIGNING], "quarantine"),
    ],
)
def test_dmarc_asks_for_something_once_mail_is_signed(states: list[DkimState], policy: str) -> None:
    [record] = [r for r in wanted(DOMAIN, OFFER, [key(state) for state in states]) if r.kind is Kind.DMARC]
    assert record.value == f"v=DMARC1; p={policy}; rua=mailto:postmaster@example.org"


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        (None, "mailto:postmaster@example.org"),
        ("reports+dmarc@example.net", "mailto:reports+dmarc@example.net"),
        ('"a,b!10m"@example.net', "mailto:a%2Cb%2110m@example.net"),
    ],
)
def test_report_uris(address: str | None, uri: str) -> None:
    reports = EmailAddress.parse(address) if address else None
    assert report_uri(DOMAIN, Offer(HOST, (HOST,), reports=reports)) == uri


@pytest.mark.parametrize("state", list(DkimState))
def test_every_key_is_published_in_its_state(state: DkimState) -> None:
    [record] = [r for r in wanted(DOMAIN, OFFER, [key(state)]) if r.kind is Kind.DKIM]
    retired = state is DkimState.RETIRED
    assert record.value.endswith("p=") is retired
    assert record.importance is (Importance.RECOMMENDED if retired else Importance.REQUIRED)


def test_services_that_are_not_offered_have_no_record() -> None:
    records = wanted(DOMAIN, Offer(HOST, (HOST,), imaps=0, submissions=2465, submission=0, imap=0, https=0))
    assert [(r.name, r.value) for r in records if r.kind is Kind.SRV] == [
        ("_submissions._tcp.example.org", f"0 1 2465 {HOST}.")
    ]
    assert not [r for r in records if r.kind in (Kind.ALIAS, Kind.PATH, Kind.AGENT)]


def test_calendars_contacts_and_settings_are_found() -> None:
    records = wanted(DOMAIN, Offer(HOST, (HOST,), https=8443, agent="v=UAAC1; a=sha256; d=AAAA="))
    found = {(r.name.removesuffix(".example.org"), r.rdtype): r.value for r in records}
    for service in ("_caldavs._tcp", "_carddavs._tcp"):
        assert (found[service, "SRV"], found[service, "TXT"]) == (f"0 1 8443 {HOST}.", "path=/dav/")
    assert found["_autodiscover._tcp", "SRV"] == f"0 1 8443 {HOST}."
    assert found["_ua-auto-config", "TXT"] == "v=UAAC1; a=sha256; d=AAAA="
    aliases = [r.name for r in records if r.kind is Kind.ALIAS]
    assert aliases == [f"{name}.example.org" for name in ("autoconfig", "autodiscover", "ua-auto-config", "mta-sts")]
    assert {r.value for r in records if r.kind is Kind.ALIAS} == {f"{HOST}."}
    without = wanted(DOMAIN, Offer(HOST, (HOST,), serves_policy=False))
    assert [r.name for r in without if r.kind is Kind.ALIAS] == ["autoconfig.example.org", "autodiscover.example.org"]


@given(st.text(max_size=700))
def test_texts_read_back_as_they_are(text: str) -> None:
    try:
        octets = text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return
    zone = dns.zone.from_text(f"a. 1 IN TXT {txt_data(text)}\n", origin="a.", check_origin=False)
    [rdata] = [rdata for _, _, rdata in zone.iterate_rdatas()]
    assert b"".join(rdata.strings) == octets
    assert all(len(string) <= 255 for string in rdata.strings)
