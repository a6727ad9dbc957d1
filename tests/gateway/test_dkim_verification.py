"""DKIM verification: the RFCs' own messages, what others sign, every rule of RFC 6376 §6, and what it may cost."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
import time
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dns_server import DnsServer, Lie
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import NOW, TestSigner, rsa_key, sign
from zone_dns import ZoneDns

from gateway.dkim import signature as our_signer
from gateway.dkim.digests import MessageDigests
from gateway.dkim.keys import SigningKey
from gateway.dkim.result import Dkim, DkimResult
from gateway.dkim.tags import TagError, decode_base64, parse_tags
from gateway.dkim.verification import FUTURE, LATE, MOST, prepare, verify
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from storage.mime.fields import read_header
from storage.values import Domain

SIGNER = TestSigner()
ED25519 = TestSigner(selector="s2", key=Ed25519PrivateKey.generate())
ZONE = {**SIGNER.zone, **ED25519.zone}
MESSAGE = (
    b"Received: from a by b; now\r\n"
    b"From: Ada <ada@example.org>\r\n"
    b"To: Bob <bob@example.net>\r\n"
    b"Subject:  =?utf-8?q?H=C3=A4?=\r\n more\t of it \r\n"
    b"Date: Mon, 4 May 2026 08:00:00 +0200\r\n"
    b"\r\n"
    b"Text  with \tblanks \r\n\r\n.dots\r\n-- \r\nAda\r\n\r\n\r\n"
)
OPENDKIM = shutil.which("opendkim", path="/usr/sbin:/usr/bin")


def verified(message: bytes, dns: ZoneDns | None = None, now: int = NOW, most: int = MOST) -> tuple[DkimResult, ...]:
    prepared = prepare(message, read_header(message), most=most)
    return asyncio.run(verify(prepared, dns or ZoneDns(ZONE), now))


def outcome(message: bytes, dns: ZoneDns | None = None, now: int = NOW) -> tuple[Dkim, str]:
    """Of a message with one signature."""
    (result,) = verified(message, dns, now)
    return result.result, result.reason


# The RFCs' messages

TEXT = (
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)
# As it was signed: the RFC's text has lost a blank before each folded line, and won one in the body.
RFC_6376 = (
    b"DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n"
    b"      c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n"
    b"      h=Received : From : To : Subject : Date : Message-ID;\r\n"
    b"      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b"      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n"
    b"      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n"
    b"      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n"
    b"      4bmp/YzhwvcubU4=;\r\n"
    b"Received: from client1.football.example.com  [192.0.2.1]\r\n"
    b"      by submitserver.example.com with SUBMISSION;\r\n"
    b"      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n"
) + TEXT.replace(b"game.  Are", b"game. Are")
RFC_6376_KEY = (
    "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt"
    "IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi"
    "tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
RFC_8463 = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
    b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
    b" date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
    b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
    b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
) + TEXT
RFC_8463_KEYS = {
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
        "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
        "Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    ),
}


def test_the_message_of_rfc_6376() -> None:
    """Appendices A.2 and C."""
    dns = ZoneDns({"brisbane._domainkey.example.com": RFC_6376_KEY})
    (result,) = verified(RFC_6376, dns)
    assert result.result is Dkim.PASS
    assert (result.domain, result.identity) == ("example.com", "joe@football.example.com")
    assert outcome(RFC_6376.replace(b"client1", b"client2"), dns)[0] is Dkim.FAIL
    assert outcome(RFC_6376.replace(b"game. Are", b"game.  Are"), dns) == (Dkim.FAIL, "the body was changed")


def test_the_message_of_rfc_8463() -> None:
    """Appendix A."""
    dns = ZoneDns(RFC_8463_KEYS)
    results = verified(RFC_8463, dns)
    assert [result.result for result in results] == [Dkim.PASS, Dkim.PASS]
    assert [result.algorithm for result in results] == ["ed25519-sha256", "rsa-sha256"]
    # Signed once more than they occur: nobody can add another Subject.
    added = RFC_8463.replace(b"To: Suzie", b"Subject: Win!\r\nTo: Suzie")
    assert [result.result for result in verified(added, dns)] == [Dkim.FAIL, Dkim.FAIL]


# What others sign, by the machine's clock


def outcome_now(message: bytes) -> Dkim:
    return outcome(message, now=int(time.time()))[0]


FORMS = [(header, body) for header in (b"simple", b"relaxed") for body in (b"simple", b"relaxed")]


@pytest.mark.parametrize(("header_form", "body_form"), FORMS)
@pytest.mark.parametrize("signer", [SIGNER, ED25519], ids=["rsa", "ed25519"])
def test_what_dkimpy_signs(signer: TestSigner, header_form: bytes, body_form: bytes) -> None:
    private = signer.pem if signer is SIGNER else base64.b64encode(signer.key.private_bytes_raw())  # type: ignore[union-attr]
    for length in (False, True):
        field = dkim.sign(
            MESSAGE,
            signer.selector.encode(),
            b"example.org",
            private,
            canonicalize=(header_form, body_form),
            signature_algorithm=f"{signer.algorithm}-sha256".encode(),
            length=length,
        )
        assert outcome_now(field + MESSAGE) is Dkim.PASS
        assert outcome_now(field + MESSAGE.replace(b"Bob", b"Eve")) is Dkim.FAIL
        assert outcome_now(field + MESSAGE.replace(b"Ada\r\n", b"Eve\r\n")) is Dkim.FAIL
        refolded = field + MESSAGE.replace(b"\r\n more\t of it", b"\r\n\tmore of it")
        assert outcome_now(refolded) is (Dkim.PASS if header_form == b"relaxed" else Dkim.FAIL)
        respaced = field + MESSAGE.replace(b"with \tblanks ", b"with blanks")
        # A simple body that became shorter than l= fails as well.
        assert outcome_now(respaced) is (Dkim.PASS if body_form == b"relaxed" else Dkim.FAIL)


BODY = st.lists(
    st.sampled_from([b"text", b" ", b"\t", b"\r\n", b"\r\n", b".", b"\xc3\xa4", b"  ", b"\r", b"\n"]), max_size=25
)


@given(BODY, st.sampled_from(FORMS), st.sampled_from([b"x", b" x ", b"\tx\r\n y\t z", b"", b"\r\n ", b"a:b ; c"]))
@settings(max_examples=150, deadline=None)
def test_every_message_that_dkimpy_signs_verifies(
    pieces: list[bytes], form: tuple[bytes, bytes], subject: bytes
) -> None:
    body = re.sub(rb"\r(?!\n)|(?<!\r)\n", b"", b"".join(pieces))  # SMTP has no lone CR and LF
    message = b"From: ada@example.org\r\nSubject:" + subject + b"\r\n\r\n" + body
    if body and not body.endswith(b"\r\n"):
        message += b"\r\n"
    field = dkim.sign(message, b"s1", b"example.org", SIGNER.pem, canonicalize=form)
    assert outcome_now(field + message) is Dkim.PASS


@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed"])
@pytest.mark.parametrize("message", [MESSAGE, MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"], ids=["body", "none"])
def test_dkimpy_verifies_what_our_tests_sign(form: str, message: bytes) -> None:
    """So the tests of rules below sign rightly."""
    signed = sign(message, SIGNER, c=form, t=str(NOW))

    def text(name: bytes, timeout: int = 5) -> bytes:
        return ZONE[name.decode().rstrip(".")].encode()

    assert dkim.DKIM(signed).verify(dnsfunc=text)
    assert outcome(signed) == (Dkim.PASS, "")


def test_what_we_sign_ourselves() -> None:
    keys = [
        SigningKey(Domain("example.org"), signer.selector, signer.algorithm, signer.key) for signer in (SIGNER, ED25519)
    ]
    results = verified(our_signer.sign(MESSAGE, keys, NOW) + MESSAGE)
    assert [result.result for result in results] == [Dkim.PASS, Dkim.PASS]


# opendkim's test mode loses all but one of the blanks behind a colon.
PLAIN = MESSAGE.replace(b"Subject:  ", b"Subject: ")
without_opendkim = pytest.mark.skipif(OPENDKIM is None, reason="OpenDKIM is not installed: apt-get install opendkim")


def opendkim(folder: Path, message: bytes, *options: str) -> str:
    """What Debian's opendkim says to a message."""
    assert OPENDKIM is not None
    (folder / "conf").write_text("\n".join(("Syslog no", "RequireSafeKeys no", *options)) + "\n")
    (folder / "message").write_bytes(message)
    command = [OPENDKIM, "-x", str(folder / "conf"), "-t", str(folder / "message"), "-v"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


@without_opendkim
@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
def test_opendkim_verifies_what_we_verify(tmp_path: Path, form: str) -> None:
    (tmp_path / "keys").write_text("".join(f"{name} {record}\n" for name, record in ZONE.items()))
    signed = sign(PLAIN, SIGNER, c=form)
    for message, verdict, result in (
        (signed, "succeeded", Dkim.PASS),
        (signed.replace(b"Bob", b"Eve"), "failed", Dkim.FAIL),
    ):
        assert verdict in opendkim(tmp_path, message, "Mode v", f"TestPublicKeys {tmp_path}/keys")
        assert outcome(message)[0] is result


@without_opendkim
@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
def test_what_opendkim_signs(tmp_path: Path, form: str) -> None:
    (tmp_path / "key").write_bytes(SIGNER.pem)
    (tmp_path / "key").chmod(0o600)
    said = opendkim(
        tmp_path,
        PLAIN,
        "Mode s",
        "Domain example.org",
        "Selector s1",
        f"KeyFile {tmp_path}/key",
        f"Canonicalization {form}",
        "OversignHeaders From,Subject",
    )
    field = said[said.index("DKIM-Signature:") :].strip().replace("\n", "\r\n").encode() + b"\r\n"
    assert outcome_now(field + PLAIN) is Dkim.PASS
    assert outcome_now(field + b"Subject: another\r\n" + PLAIN) is Dkim.FAIL
    assert outcome_now(field + PLAIN + b"more\r\n") is Dkim.FAIL


# The rules (RFC 6376 §6.1.1)


def test_a_message_without_signatures() -> None:
    dns = ZoneDns()
    assert verified(MESSAGE, dns) == ()
    assert dns.asked == []


@pytest.mark.parametrize(
    ("changes", "result", "reason"),
    [
        ({}, Dkim.PASS, ""),
        ({"v": "2"}, Dkim.NEUTRAL, "the signature is of an unknown version"),
        ({"v": None}, Dkim.NEUTRAL, "v= is missing"),
        ({"d": None}, Dkim.NEUTRAL, "d= is missing"),
        ({"s": None}, Dkim.NEUTRAL, "s= is missing"),
        ({"a": None}, Dkim.NEUTRAL, "a= is missing"),
        ({"h": None}, Dkim.NEUTRAL, "h= is missing"),
        ({"bh": None}, Dkim.NEUTRAL, "bh= is missing"),
        ({"d": "ex ample"}, Dkim.PERMERROR, "d= is no domain"),
        ({"d": "."}, Dkim.PERMERROR, "d= is no domain"),
        ({"d": "a" * 64 + ".test"}, Dkim.PERMERROR, "d= is no domain"),
        ({"d": "ü." * 15_000 + "test"}, Dkim.PERMERROR, "d= is no domain"),
        ({"d": "x." * 120 + "test"}, Dkim.PERMERROR, "selector and domain are too long"),
        ({"s": "s(1"}, Dkim.PERMERROR, "s= is no selector"),
        ({"d": "EXAMPLE.org", "s": "S1", "a": "RSA-SHA256"}, Dkim.PASS, ""),
        ({"a": "rsa-sha1"}, Dkim.POLICY, "rsa-sha1 is not accepted any more"),
        ({"a": "rsa-sha512"}, Dkim.NEUTRAL, "the algorithm is unknown"),
        ({"a": "ed25519-sha256"}, Dkim.PERMERROR, "the key is of another type"),
        ({"c": "nofws/simple"}, Dkim.NEUTRAL, "the canonicalisation is unknown"),
        ({"c": "relaxed/relaxed/relaxed"}, Dkim.NEUTRAL, "the canonicalisation is unknown"),
        ({"c": None}, Dkim.PASS, ""),
        ({"q": "dns/txt:http"}, Dkim.PASS, ""),
        ({"q": "http"}, Dkim.NEUTRAL, "its key is not in DNS"),
        ({"b": "*"}, Dkim.NEUTRAL, "the signature is no base64"),
        ({"b": "AAAA"}, Dkim.FAIL, "the header or the signature was changed"),
        ({"bh": "AAAA"}, Dkim.NEUTRAL, "bh= is no SHA-256 hash"),
        ({"bh": "A" * 43 + "="}, Dkim.FAIL, "the body was changed"),
        ({"h": "To:Subject"}, Dkim.PERMERROR, "From is not signed"),
        ({"h": "From:"}, Dkim.NEUTRAL, "h= is no list of field names"),
        ({"h": " From \t: Subject\r\n :To "}, Dkim.PASS, ""),
        ({"h": "From:" + "X:" * 1000 + "X"}, Dkim.NEUTRAL, "h= has too many names"),
        ({"h": "From:From:From:Nothing"}, Dkim.PASS, ""),
        ({"h": "From:ü"}, Dkim.NEUTRAL, "h= is no list of field names"),
        ({"i": "@example.org"}, Dkim.PASS, ""),
        ({"i": "ada@news.EXAMPLE.org"}, Dkim.PASS, ""),
        ({"i": "ada@example.com"}, Dkim.PERMERROR, "i= is not of the domain that signs"),
        ({"i": "ada@badexample.org"}, Dkim.PERMERROR, "i= is not of the domain that signs"),
        ({"i": "example.org"}, Dkim.PERMERROR, "i= is not of the domain that signs"),
        ({"t": "soon"}, Dkim.NEUTRAL, "t= is no time"),
        ({"t": str(NOW + FUTURE)}, Dkim.PASS, ""),
        ({"t": str(NOW + FUTURE + 1)}, Dkim.PERMERROR, "the signature is from the future"),
        ({"x": str(NOW - LATE)}, Dkim.PASS, ""),
        ({"x": str(NOW - LATE - 1)}, Dkim.PERMERROR, "the signature has expired"),
        ({"x": "9" * 13}, Dkim.NEUTRAL, "x= is no time"),
        ({"t": str(NOW), "x": str(NOW)}, Dkim.PERMERROR, "the signature expires before it was made"),
        ({"l": "-1"}, Dkim.NEUTRAL, "l= is no number"),
        ({"l": "9" * 77}, Dkim.NEUTRAL, "l= is no number"),
        ({"l": "10"}, Dkim.POLICY, "the signature leaves the end of the body open"),
        ({"l": "0"}, Dkim.POLICY, "the signature leaves the end of the body open"),
        ({"l": "10000"}, Dkim.FAIL, "the body is shorter than it was"),
        ({"unknown": "x", "z": "From:ada@example.org|To:x"}, Dkim.PASS, ""),
    ],
)
def test_the_rules_of_a_signature(changes: dict[str, str | None], result: Dkim, reason: str) -> None:
    assert outcome(sign(MESSAGE, SIGNER, **changes)) == (result, reason)


def test_a_signature_over_the_whole_body_with_its_length() -> None:
    _, octets = MessageDigests(MESSAGE, read_header(MESSAGE)).body(relaxed=True)
    signed = sign(MESSAGE, SIGNER, l=str(octets))
    assert outcome(signed) == (Dkim.PASS, "")
    assert outcome(signed + b"Buy!\r\n") == (Dkim.POLICY, "the signature leaves the end of the body open")


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (b"v=1; v=1; d=example.org", "the signature cannot be read: a tag stands twice"),
        (b"v=1; d", "the signature cannot be read: it is no list of tags"),
        (b"v=1; 1d=x", "the signature cannot be read: it is no list of tags"),
        (b"v=1; =x", "the signature cannot be read: it is no list of tags"),
        (b"\xff", "the signature cannot be read: it is not UTF-8"),
        (b"", "v= is missing"),
        (b";" * 101, "the signature cannot be read: it has too many tags"),
        (b"v=1; n=" + b"x" * 70_000, "the signature is too long"),
    ],
)
def test_what_is_no_signature(field: bytes, reason: str) -> None:
    assert outcome(b"DKIM-Signature: " + field + b"\r\n" + MESSAGE) == (Dkim.NEUTRAL, reason)


def test_the_last_fields_of_a_name_are_signed_first() -> None:
    """§5.4.2: another one in front goes unnoticed only if the signer let it."""
    signed = sign(MESSAGE, SIGNER, h="From:Date")
    assert outcome(b"Date: another\r\n" + signed)[0] is Dkim.PASS
    assert outcome(signed.replace(b"\r\n\r\nText", b"\r\nDate: another\r\n\r\nText"))[0] is Dkim.FAIL
    oversigned = sign(MESSAGE, SIGNER, h="From:Date:Date")
    assert outcome(oversigned)[0] is Dkim.PASS
    assert outcome(b"Date: another\r\n" + oversigned)[0] is Dkim.FAIL


def test_a_signature_that_signs_another_signature() -> None:
    inner = sign(MESSAGE, SIGNER)
    outer = sign(inner, ED25519, h="From:DKIM-Signature:DKIM-Signature")
    assert [each.result for each in verified(outer)] == [Dkim.PASS, Dkim.PASS]
    changed = outer.replace(b"h=From:To:Subject;", b"h=From:To:Subject ;")
    assert verified(changed)[0].result is Dkim.FAIL


def test_internationalised_domains() -> None:
    """RFC 8616 §4: d= and s= in U-labels."""
    signer = TestSigner("bücher.example", "süd")
    dns = ZoneDns({"xn--sd-xka._domainkey.xn--bcher-kva.example": signer.record})
    (result,) = verified(sign(MESSAGE, signer, i="jürgen@bücher.example"), dns)
    assert (result.result, result.domain, result.selector) == (Dkim.PASS, "xn--bcher-kva.example", "xn--sd-xka")
    assert "header.i" not in result.authentication_result


@pytest.mark.parametrize("name", ["From", "Subject", "To", "Cc", "Reply-To"])
def test_a_field_beside_the_signed_one(name: str) -> None:
    """§8.15: readers show the one above, which the signature says nothing of."""
    message = b"Cc: c@example.net\r\nReply-To: r@example.org\r\n" + MESSAGE
    signed = sign(message, SIGNER, h="From:To:Subject:Cc:Reply-To")
    assert outcome(signed) == (Dkim.PASS, "")
    added = f"{name}: pay@evil.example\r\n".encode() + signed
    assert outcome(added) == (Dkim.POLICY, f"another {name} field was not signed")


def test_what_was_sent_with_two_fields_may_have_both_signed() -> None:
    twice = b"Subject: another\r\n" + MESSAGE
    assert outcome(sign(twice, SIGNER, h="From:Subject:Subject"))[0] is Dkim.PASS
    assert outcome(sign(twice, SIGNER, h="From:To"))[0] is Dkim.PASS  # it says nothing of either
    assert outcome(sign(twice, SIGNER, h="From:Subject"))[0] is Dkim.POLICY
    assert outcome(b"Received: from c by d; now\r\n" + sign(MESSAGE, SIGNER, h="From:Received"))[0] is Dkim.PASS


# Keys (§6.1.2)


@pytest.mark.parametrize(
    ("records", "result", "reason"),
    [
        ("{k}", Dkim.PASS, ""),
        ("p={p}", Dkim.PASS, ""),
        (" v = DKIM1 ; h = sha1 : sha256 ; s = x : email ; n=note; q=?; p = {p} ;", Dkim.PASS, ""),
        ("v=DKIM1; s=*; p={p}", Dkim.PASS, ""),
        (b"v=DKIM1; n=\xff; p=%s", Dkim.PASS, ""),
        ("v=DKIM1; p=", Dkim.PERMERROR, "the key was revoked"),
        ("v=DKIM1; p=*", Dkim.PERMERROR, "the key is no base64"),
        ("v=DKIM1; p=AAAA", Dkim.PERMERROR, "the key cannot be read"),
        ("v=DKIM1; k=ed25519; p={p}", Dkim.PERMERROR, "the key is of another type"),
        ("v=DKIM1; h=sha1; p={p}", Dkim.PERMERROR, "the key is not for SHA-256"),
        ("v=DKIM1; s=tlsrpt; p={p}", Dkim.PERMERROR, "the key is not for mail"),
        ("v=DKIM2; p={p}", Dkim.PERMERROR, "there is no such key"),
        ("p={p}; v=DKIM1", Dkim.PERMERROR, "there is no such key"),
        ("p={p}; p={p}", Dkim.PERMERROR, "there is no such key"),
        ("v=spf1 -all", Dkim.PERMERROR, "there is no such key"),
        ([], Dkim.PERMERROR, "there is no such key"),
        ("v=DKIM1; n=" + "x" * 9000 + "; p={p}", Dkim.PERMERROR, "the key record is too long"),
        ("v=DKIM1; n=" + "x" * 3000 + "; p={p}", Dkim.PASS, ""),
        (["v=spf1 -all", "{k}"], Dkim.PASS, ""),
        (["v=DKIM1; p=", "{k}"], Dkim.PASS, ""),
        (["{k}", "{k}"], Dkim.PERMERROR, "several keys stand under one selector"),
        (["x"] * 30 + ["{k}"], Dkim.PERMERROR, "there is no such key"),
    ],
)
def test_key_records(records: str | bytes | list[str], result: Dkim, reason: str) -> None:
    public = base64.b64encode(SIGNER.public)

    def filled(text: str | bytes) -> bytes:
        if isinstance(text, bytes):
            return text % public
        return text.replace("{k}", SIGNER.record).replace("{p}", public.decode()).encode()

    texts = [filled(text) for text in records] if isinstance(records, list) else [filled(records)]
    assert outcome(sign(MESSAGE, SIGNER), ZoneDns({SIGNER.name: list(texts)})) == (result, reason)


def test_a_name_that_does_not_exist_has_no_key() -> None:
    assert outcome(sign(MESSAGE, SIGNER), ZoneDns()) == (Dkim.PERMERROR, "there is no such key")


def test_dns_without_an_answer_is_temporary() -> None:
    dns = ZoneDns(ZONE)
    dns.failing.add(SIGNER.name)
    results = verified(sign(sign(MESSAGE, ED25519), SIGNER), dns)
    assert [each.result for each in results] == [Dkim.TEMPERROR, Dkim.PASS]
    assert results[0].reason == "DNS did not answer for its key"


def test_a_domain_that_tests() -> None:
    """§3.6.1, t=y: a failure is as good as no signature."""
    dns = ZoneDns({SIGNER.name: SIGNER.record + "; t=y:s"})
    (result,) = verified(sign(MESSAGE, SIGNER), dns)
    assert result.result is Dkim.PASS and result.testing
    (result,) = verified(sign(MESSAGE, SIGNER, b="AAAA"), dns)
    assert (result.result, result.testing) == (Dkim.NEUTRAL, True)
    assert result.reason == "the header or the signature was changed, and its domain only tests"


def test_a_key_for_its_own_domain_alone() -> None:
    """§3.6.1, t=s."""
    dns = ZoneDns({SIGNER.name: SIGNER.record + "; t=s"})
    assert outcome(sign(MESSAGE, SIGNER, i="ada@example.org"), dns)[0] is Dkim.PASS
    assert outcome(sign(MESSAGE, SIGNER, i="ada@news.example.org"), dns) == (
        Dkim.PERMERROR,
        "the key is not for domains below its own",
    )


@pytest.mark.parametrize(
    ("bits", "result", "reason"),
    [
        (1024, Dkim.PASS, ""),
        (4096, Dkim.PASS, ""),
        (512, Dkim.PERMERROR, "the key has fewer than 1024 bits"),
        (8192, Dkim.POLICY, "the key has more than 4096 bits"),
    ],
)
def test_sizes_of_rsa_keys(bits: int, result: Dkim, reason: str) -> None:
    """RFC 8301 §3.2, and a bound of ours on what a signature costs."""
    if bits in (512, 8192):  # one that is too small is not made any more, and one that is large takes long
        signed, record = sign(MESSAGE, SIGNER), f"p={base64.b64encode(rsa_modulus(bits)).decode()}"
    else:
        signer = TestSigner(key=rsa_key(bits))
        signed, record = sign(MESSAGE, signer), signer.record
    assert outcome(signed, ZoneDns({SIGNER.name: record})) == (result, reason)


def test_an_exponent_that_makes_verifying_slow() -> None:
    record = f"p={base64.b64encode(rsa_modulus(2048, exponent=(1 << 2000) + 1)).decode()}"
    result, _ = outcome(sign(MESSAGE, SIGNER), ZoneDns({SIGNER.name: record}))
    assert result in (Dkim.POLICY, Dkim.PERMERROR)


def rsa_modulus(bits: int, exponent: int = 65537) -> bytes:
    """RSAPublicKey in DER (RFC 8017 A.1.1) of a number of that size."""

    def integer(number: int) -> bytes:
        octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
        return b"\x02" + length(len(octets)) + octets

    def length(size: int) -> bytes:
        if size < 128:
            return bytes([size])
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes([128 + len(octets)]) + octets

    inner = integer((1 << (bits - 1)) | ((1 << (bits // 2)) - 1)) + integer(exponent)
    return b"\x30" + length(len(inner)) + inner


# Authentication-Results (RFC 8601 §2.7.1)


def test_how_results_are_written_down() -> None:
    (result,) = verified(sign(MESSAGE, SIGNER, i="ada@news.example.org"))
    text = result.authentication_result
    assert text.startswith(
        "dkim=pass header.d=example.org header.s=s1 header.a=rsa-sha256 header.i=ada@news.example.org"
    )
    assert re.search(r' header\.b=(?:[A-Za-z0-9]{8}|"[A-Za-z0-9+/=]{8}")\Z', text)
    (result,) = verified(sign(MESSAGE, SIGNER) + b"more")
    assert result.authentication_result.startswith('dkim=fail reason="the body was changed" header.d=example.org')


@pytest.mark.parametrize(
    "tags",
    [
        b"d=a.example; s=x; dkim=pass header.d=bank.example; b=AAAA",
        b'v=1; d=a.example(; s=x\r\n ; i="x" dkim=pass@a.example; a=rsa sha; b=AA)AA',
        b'v=1; d=a.example; s=x; i=a\r\n b@a.example; b=\xc3\xa4; a=rsa-sha256"',
        b"v=1; d=a.example; s=x; i=" + b"a" * 1000 + b"@a.example; b=" + b"A" * 1000,
    ],
)
def test_a_strangers_words_stay_out_of_our_field(tags: bytes) -> None:
    """What stands there are tokens and our own reasons."""
    (result,) = verified(b"DKIM-Signature: " + tags + b"\r\n" + MESSAGE)
    assert re.fullmatch(
        r'dkim=[a-z]+(?: reason="[A-Za-z0-9 =,:\'/-]+")?'
        r"(?: header\.[dsa]=[A-Za-z0-9_.-]+)*(?: header\.i=[A-Za-z0-9_.+@-]+)?"
        r'(?: header\.b=(?:[A-Za-z0-9]+|"[A-Za-z0-9+/=]+"))?',
        result.authentication_result,
    ), result.authentication_result
    assert len(result.authentication_result) < 600


def test_signatures_are_told_apart() -> None:
    """RFC 6008 §4: by as much of b= as it takes."""
    alike = [b"DKIM-Signature: v=1; b=AAAAAAAAAAAA%s\r\n" % end for end in (b"BBBB", b"CCCC", b"BBBB")]
    results = verified(b"".join(alike) + MESSAGE)
    assert [each.signature for each in results] == ["AAAAAAAAAAAABBBB", "AAAAAAAAAAAACCCC", "AAAAAAAAAAAABBBB"]


# What it may cost


def test_a_thousand_signatures() -> None:
    """The first ten are looked at, with one question each at most."""
    dns = ZoneDns(ZONE)
    message = b"".join(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s; h=from; bh=%s; b=AAAA\r\n"
        % (number, base64.b64encode(MessageDigests(MESSAGE, read_header(MESSAGE)).body(relaxed=False)[0]))
        for number in range(1000)
    )
    prepared = prepare(message + MESSAGE, read_header(message + MESSAGE))
    assert (len(prepared.signatures), prepared.not_looked_at) == (10, 990)
    results = asyncio.run(verify(prepared, dns, NOW))
    assert {each.result for each in results} == {Dkim.PERMERROR}
    assert dns.asked == [f"s._domainkey.d{number}.example" for number in range(10)]
    assert len(verified(message + MESSAGE, most=3)) == 3


def test_a_key_is_asked_for_once() -> None:
    dns = ZoneDns(ZONE)
    message = MESSAGE
    for _ in range(5):
        message = sign(message, SIGNER)
    assert [each.result for each in verified(message, dns)] == [Dkim.PASS] * 5
    assert dns.asked == [SIGNER.name]


def test_a_signature_that_cannot_hold_costs_no_question() -> None:
    dns = ZoneDns(ZONE)
    for message in (
        sign(MESSAGE, SIGNER) + b"more\r\n",
        sign(MESSAGE, SIGNER, x=str(NOW - 10_000)),
        sign(MESSAGE, SIGNER, l="3"),
    ):
        assert not verified(message, dns)[0].passed
    assert dns.asked == []


def test_each_field_is_hashed_once_however_often_it_is_named() -> None:
    message = b"From: ada@example.org\r\nX: " + b"x" * 500_000 + b"\r\n\r\n"
    signed = sign(message, SIGNER, h="From:" + ":".join(["X"] * 900))
    header = read_header(signed)
    digests = MessageDigests(signed, header)
    assert outcome(signed)[0] is Dkim.PASS
    assert digests.signed([b"x"] * 900, header.fields[0], relaxed=True) == digests.signed(
        [b"x"], header.fields[0], relaxed=True
    )


@pytest.mark.parametrize("form", ["simple/simple", "relaxed/relaxed"])
def test_bodies_of_nothing_but_empty_lines(form: str) -> None:
    body = b"\r\n" * 1_000_000
    message = b"From: ada@example.org\r\n\r\n"
    assert outcome(sign(message, SIGNER, c=form) + body)[0] is Dkim.PASS
    assert outcome(sign(message + b"x\r\n", SIGNER, c=form) + body)[0] is Dkim.PASS


def test_over_a_name_server_that_lies() -> None:
    """Each question ends; what is no answer is temporary."""
    with DnsServer({SIGNER.name: {"TXT": SIGNER.record}}) as server:
        settings_ = DnsSettings(nameservers=server.nameservers, port=server.port, timeout=0.3, cache=0)
        signed = sign(MESSAGE, SIGNER)
        prepared = prepare(signed, read_header(signed))

        def check() -> Dkim:
            return asyncio.run(verify(prepared, Resolver(settings_), NOW))[0].result

        assert check() is Dkim.PASS
        server.lie(SIGNER.name, Lie(truncated=True))
        assert check() is Dkim.PASS
        for lie in (Lie(silent=True), Lie(rcode="SERVFAIL"), Lie(garbage=True), Lie(endless=True), Lie(wrong_id=True)):
            server.lie(SIGNER.name, lie)
            assert check() is Dkim.TEMPERROR, lie
        server.lie(SIGNER.name, Lie(rcode="NXDOMAIN"))
        assert check() is Dkim.PERMERROR


# Tag lists


@given(st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True), st.text("ab= \t:/+1ü"), max_size=8))
def test_tag_lists_read_back(tags: dict[str, str]) -> None:
    octets = " ;\r\n\t".join(f" {name} = {value}" for name, value in tags.items()).encode()
    assert parse_tags(octets) == {name: value.strip(" \t\r\n") for name, value in tags.items()}


@given(st.lists(st.sampled_from([b"a", b"b=", b"=", b";", b" ", b"\r\n ", b"\xff", b"\xc3\xa4", b"1", b"x=y;"])))
def test_tag_lists_are_read_or_refused(pieces: list[bytes]) -> None:
    try:
        tags = parse_tags(b"".join(pieces))
    except TagError as error:
        assert str(error)
    else:
        assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) and ";" not in value for name, value in tags.items())


@given(st.binary(max_size=60))
def test_any_octets_are_a_signature_or_none(octets: bytes) -> None:
    message = b"DKIM-Signature:" + octets.replace(b"\n", b"\n ") + b"\r\n" + MESSAGE
    for result in verified(message):
        assert result.result in (Dkim.NEUTRAL, Dkim.PERMERROR, Dkim.POLICY)
        assert result.authentication_result.isascii()


def test_base64() -> None:
    assert decode_base64(" AA\r\n AA ") == b"\0\0\0"
    assert decode_base64("") is None and decode_base64("A") is None and decode_base64("AA-A") is None
