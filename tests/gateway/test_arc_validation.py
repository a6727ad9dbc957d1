"""ARC chains: sealed by dkimpy and by our tests, broken in every way, what trusted sealers said, what it may cost."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from signing import NOW, TestSigner, seal, sign
from zone_dns import ZoneDns

from gateway.arc.result import Arc, ArcResult, SealedResults, SealedSet
from gateway.arc.results import MethodResult, read_results
from gateway.arc.validation import MESSAGE_SIGNATURES, RESULTS_READ, SETS_MAX, prepare, validate
from gateway.dkim.digests import MessageDigests
from storage.mime.fields import read_header

AUTHOR = TestSigner("a.example")
LIST = TestSigner("list.example", "s", Ed25519PrivateKey.generate())
RELAY = TestSigner("relay.example", "s")
LAST = TestSigner("last.example", "s")
ZONE = {**AUTHOR.zone, **LIST.zone, **RELAY.zone, **LAST.zone}
MESSAGE = sign(
    b"From: Ada <ada@a.example>\r\nTo: list@list.example\r\nSubject: Hello\r\n\r\nText\r\n", AUTHOR, h="From:To:Subject"
)
SEALED = (
    "mx.list.example; spf=pass smtp.mailfrom=ada@a.example;\r\n\tdkim=pass header.d=a.example;"
    " dmarc=pass (p=none) header.from=a.example"
)


def validated(message: bytes, dns: ZoneDns | None = None, now: int = NOW) -> ArcResult:
    return asyncio.run(validate(prepare(message, read_header(message)), dns or ZoneDns(ZONE), now))


def outcome(message: bytes, dns: ZoneDns | None = None) -> tuple[Arc, str]:
    result = validated(message, dns)
    return result.result, result.reason


ONE = seal(MESSAGE, LIST, results=SEALED)
TWO = seal(ONE, RELAY, results="mx.relay.example; dkim=fail; arc=pass; dmarc=fail header.from=a.example")
THREE = seal(TWO, LAST, results="mx.last.example; arc=pass")


def test_a_message_without_a_chain() -> None:
    dns = ZoneDns(ZONE)
    assert validated(MESSAGE, dns) == ArcResult(Arc.NONE)
    assert dns.asked == []


def test_a_field_beside_the_sealed_one() -> None:
    for name in ("From", "Subject"):
        added = f"{name}: pay@evil.example\r\n".encode() + TWO
        assert outcome(added) == (Arc.FAIL, f"another {name} field was not signed")


def test_a_chain_that_holds() -> None:
    dns = ZoneDns(ZONE)
    result = validated(THREE, dns)
    assert result.result is Arc.PASS
    assert result.sealers == ("last.example", "relay.example", "list.example")
    assert [each.instance for each in result.sets] == [3, 2, 1]
    assert result.oldest_pass == 0
    assert result.authentication_result == "arc=pass header.oldest-pass=0"
    assert sorted(dns.asked) == sorted([LIST.name, RELAY.name, LAST.name])


def test_dkimpy_validates_what_our_tests_seal() -> None:
    def text(name: bytes, timeout: int = 5) -> bytes:
        return ZONE[name.decode().rstrip(".")].encode()

    first = seal(MESSAGE, RELAY)  # its ARC does not know Ed25519
    second = seal(first.replace(b"Text", b"Next"), LAST)
    for message in (first, second, seal(second, RELAY)):
        assert validated(message).result is Arc.PASS
        verdict, sets, reason = dkim.ARC(message).verify(dnsfunc=text)
        assert verdict == dkim.CV_Pass, (reason, sets)


def sealed_by_dkimpy(message: bytes, domain: bytes, results: bytes) -> bytes:
    field = b"Authentication-Results: " + domain + b"; " + results + b"\r\n"
    fields = dkim.arc_sign(field + message, b"s", domain, RELAY.pem, domain)
    assert len(fields) == 3, fields
    return b"".join(fields) + message


def test_what_dkimpy_seals() -> None:
    zone = {f"s._domainkey.{name}.example": RELAY.record for name in ("one", "two", "three")}
    message = sealed_by_dkimpy(MESSAGE, b"one.example", b"dmarc=pass header.from=a.example")
    message = sealed_by_dkimpy(message, b"two.example", b"arc=pass")
    message = b"X-Footer: 1\r\n" + message
    message = sealed_by_dkimpy(message, b"three.example", b"arc=pass")
    now = int(time.time())
    result = validated(message, ZoneDns(zone), now)
    assert (result.result, result.reason) == (Arc.PASS, "")
    assert result.sealers == ("three.example", "two.example", "one.example")
    trusted = result.trusted({"one.example", "two.example", "three.example"})
    assert trusted is not None and (trusted.sealer, trusted.dmarc) == ("one.example", "pass")
    for old, new in ((b"Ada", b"Eve"), (b"Text", b"Next"), (b"dmarc=pass", b"dmarc=fail")):
        assert old in message
        assert validated(message.replace(old, new), ZoneDns(zone), now).result is Arc.FAIL


def test_since_when_a_message_is_unchanged() -> None:
    """RFC 8617 §5.2, 5: who changes a message seals it anew, and the chain holds."""
    changed = seal(TWO.replace(b"Text\r\n", b"Text\r\n-- \r\nthe list\r\n"), LAST)
    result = validated(changed)
    assert (result.result, result.oldest_pass) == (Arc.PASS, 3)
    again = seal(changed, RELAY)
    assert validated(again).oldest_pass == 3
    header = seal(TWO.replace(b"Subject: Hello", b"Subject: [list] Hello"), LAST)
    assert validated(header).oldest_pass == 3
    assert validated(seal(ONE.replace(b"Hello", b"Bye"), RELAY)).oldest_pass == 2


# Broken chains


def lines(message: bytes, name: bytes, instance: int) -> list[bytes]:
    pattern = rb"(?m)^%s: i=%d;[^\n]*\n(?:[ \t][^\n]*\n)*" % (name, instance)
    return [found[0] for found in re.finditer(pattern, message)]


def without(message: bytes, name: bytes, instance: int) -> bytes:
    (field,) = lines(message, name, instance)
    return message.replace(field, b"")


def twice(message: bytes, name: bytes, instance: int) -> bytes:
    (field,) = lines(message, name, instance)
    return field + message


@pytest.mark.parametrize("instance", [1, 2, 3])
@pytest.mark.parametrize("name", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
def test_a_chain_with_a_field_missing_or_twice(name: bytes, instance: int) -> None:
    dns = ZoneDns(ZONE)
    assert outcome(without(THREE, name, instance), dns) == (Arc.FAIL, "a field of the chain is missing")
    assert outcome(twice(THREE, name, instance), dns) == (
        Arc.FAIL,
        f"set {instance} of the chain has two fields of one kind",
    )
    assert dns.asked == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Ada", b"Eve", "the newest message signature: what it signs was changed"),
        (b"Text", b"Next", "the body was changed"),
        (b"mx.list.example; spf=pass", b"mx.list.example; spf=none", "seal 3: what it signs was changed"),
        (b"i=1; a=ed25519-sha256; c", b"i=1; a=ed25519-sha256;  x=9; c", "seal 3: what it signs was changed"),
        (b"mx.last.example; arc=pass", b"mx.last.example; arc=none", "seal 3: what it signs was changed"),
        (b"i=2; mx.relay", b"i=3; mx.relay", "set 3 of the chain has two fields of one kind"),
        (b"i=2; mx.relay", b"i=4; mx.relay", "a field of the chain is missing"),
        (b"i=2; mx.relay", b"i=0; mx.relay", "a field of the chain has no instance"),
        (b"i=2; mx.relay", b"i=51; mx.relay", "a field of the chain has no instance"),
        (b"i=2; mx.relay", b"i=999; mx.relay", "a field of the chain has no instance"),
        (b"i=2; mx.relay", b"mx.relay", "a field of the chain has no instance"),
        (b"ARC-Seal: i=2;", b"ARC-Seal:", "a field of the chain has no instance"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; i=2;", "a tag stands twice"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; h=From;", "seal 2 has h="),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; \xff;", "it is not UTF-8"),
    ],
)
def test_a_chain_that_was_changed(old: bytes, new: bytes, reason: str) -> None:
    assert THREE.count(old) == 1
    assert outcome(THREE.replace(old, new)) == (Arc.FAIL, reason)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda: seal(ONE, RELAY, cv="fail"), "seal 2 says that the chain was broken"),
        (lambda: seal(ONE, RELAY, cv="none"), "seal 2 says that the chain was broken"),
        (lambda: seal(MESSAGE, RELAY, cv="pass"), "seal 1 says that the chain was broken"),
        (lambda: seal(MESSAGE, RELAY, instance=2), "a field of the chain is missing"),
        (lambda: seal(ONE, RELAY, instance=3), "a field of the chain is missing"),
        (lambda: seal(ONE, RELAY, seal_tags={"cv": None}), "seal 2 says that the chain was broken"),
        (lambda: seal(ONE, RELAY, seal_tags={"a": "rsa-sha1"}), "rsa-sha1 is not accepted any more"),
        (lambda: seal(ONE, RELAY, seal_tags={"d": None}), "d= is missing"),
        (lambda: seal(ONE, RELAY, seal_tags={"d": "x." * 121 + "test"}), "selector and domain are too long"),
        (lambda: seal(ONE, RELAY, seal_tags={"d": "list.example"}), "seal 2: the key is of another type"),
        (lambda: seal(ONE, RELAY, seal_tags={"s": "other"}), "seal 2: there is no such key"),
        (lambda: seal(ONE, RELAY, message_tags={"h": "To"}), "From is not signed"),
        (lambda: seal(ONE, RELAY, message_tags={"l": "1"}), "the signature leaves the end of the body open"),
        (lambda: seal(ONE, RELAY, message_tags={"bh": None}), "bh= is missing"),
        (lambda: seal(ONE, RELAY, message_tags={"x": str(NOW - 10_000)}), "the signature has expired"),
        (lambda: seal(ONE, RELAY, message_tags={"s": "other"}), "the newest message signature: there is no such key"),
        (lambda: seal(ONE, RELAY, message_tags={"v": "1"}), ""),
        (lambda: seal(ONE, RELAY, message_tags={"c": "simple/simple"}), ""),
        (lambda: b"ARC-Seal: i=1; n=" + b"x" * 70_000 + b"\r\n" + MESSAGE, "a field of the chain is too long"),
    ],
)
def test_a_chain_that_was_sealed_wrongly(changed: Callable[[], bytes], reason: str) -> None:
    assert outcome(changed()) == (Arc.FAIL if reason else Arc.PASS, reason)


def test_an_old_message_signature_may_be_beyond_reading() -> None:
    """Only the newest has to hold; the seals cover the others."""
    message = seal(seal(MESSAGE, LIST, message_tags={"a": "rsa-sha1"}), RELAY)
    result = validated(message)
    assert (result.result, result.oldest_pass) == (Arc.PASS, 2)


def test_every_failure_is_permanent() -> None:
    """§5.2.1."""
    dns = ZoneDns(ZONE)
    dns.failing.add(RELAY.name)
    assert outcome(THREE, dns) == (Arc.FAIL, "seal 2: DNS did not answer for its key")


# Whom to believe (§7.2)

EVERYBODY = {"list.example", "relay.example", "last.example"}


def test_nobody_is_believed_who_is_not_configured() -> None:
    result = validated(THREE)
    assert result.trusted(()) is None
    assert result.trusted({"list.example"}) is None  # two strangers stand between
    assert result.trusted({"list.example", "relay.example"}) is None
    assert validated(THREE.replace(b"Ada", b"Eve")).trusted(EVERYBODY) is None


def test_the_newest_sealer_that_saw_it_pass_is_believed() -> None:
    result = validated(THREE)
    assert result.trusted(EVERYBODY) == SealedResults(
        "list.example", 1, "pass", "a.example", (("pass", "a.example"),), "pass", "a.example"
    )
    # Nobody relies on what a stranger saw, even if all after him are known.
    assert result.trusted({"relay.example", "last.example"}) == SealedResults("last.example", 3)
    assert validated(ONE).trusted({"list.example"}) == validated(THREE).trusted(EVERYBODY)


def test_for_whom_a_sealer_vouches() -> None:
    trusted = validated(ONE).trusted({"list.example"})
    assert trusted is not None
    assert trusted.vouches_for("a.example")
    assert not trusted.vouches_for("b.example")
    assert not SealedResults("list.example", 1, dmarc="fail", author_domain="a.example").vouches_for("a.example")


# The results in the fields


@pytest.mark.parametrize(
    ("value", "results"),
    [
        ("i=1; mx.example; none", ()),
        ("", ()),
        ("i=1; mx.example; spf=pass", (MethodResult("spf", "pass"),)),
        (
            'mx.example 1; DKIM/1 = Pass (2048-bit; "x") reason="it is; fine" header.d=A.example header.i="@a.example"',
            (MethodResult("dkim", "pass", (("header.d", "a.example"), ("header.i", "@a.example"))),),
        ),
        (
            "mx; dmarc=fail (p=none (dis=none)) header.from=a.example; ; arc=pass",
            (MethodResult("dmarc", "fail", (("header.from", "a.example"),)), MethodResult("arc", "pass")),
        ),
        (
            "mx; dkim=pass header.b=AbC/d= header.d=a.example",
            (MethodResult("dkim", "pass", (("header.b", "abc/d="), ("header.d", "a.example"))),),
        ),
        (
            'mx; spf=pass smtp.mailfrom="x\\"; y"@a.example; dkim=none',
            (MethodResult("spf", "pass", (("smtp.mailfrom", 'x"; y@a.example'),)), MethodResult("dkim", "none")),
        ),
        ('mx; spf="pass"', (MethodResult("spf", "pass"),)),
        ("mx; spf=pass (comment without an end; dkim=pass", (MethodResult("spf", "pass"),)),
        ('mx; spf=pass "; dkim=pass', (MethodResult("spf", "pass"), MethodResult("dkim", "pass"))),
        ("mx; (dmarc=pass) spf=none; =pass; dkim=; x y=z", (MethodResult("spf", "none"),)),
    ],
)
def test_reading_results(value: str, results: tuple[MethodResult, ...]) -> None:
    assert read_results(value) == results


@pytest.mark.parametrize("piece", ['"', "(", "\\", '"\\', "a=", "=", ";", "a", " ", "(\\", 'x="'])
def test_results_are_read_in_linear_time(piece: str) -> None:
    """A million of anything ends at once, since only the first octets are read."""
    assert isinstance(read_results("mx; " + piece * 1_000_000), tuple)


@given(st.text(st.sampled_from('ia=1; "()\\.dkmpass/\r\n\té'), max_size=60))
def test_any_text_is_read(value: str) -> None:
    for result in read_results(value):
        assert re.fullmatch("[a-z][a-z0-9-]*", result.method) and re.fullmatch("[a-z][a-z0-9-]*", result.result)


def test_a_summary_takes_the_first_result_of_a_kind() -> None:
    results = read_results("mx; dmarc=fail header.from=a.example; dmarc=pass header.from=a.example; spf=pass")
    result = ArcResult(Arc.PASS, (SealedSet(1, "s.example", results),), 0)
    trusted = result.trusted({"s.example"})
    assert trusted is not None and trusted.dmarc == "fail" and trusted.spf == "pass"


# What it may cost


def chain(sets: int, message: bytes = MESSAGE) -> bytes:
    for _ in range(sets):
        message = seal(message, LIST, results="mx.list.example; dmarc=pass header.from=a.example")
    return message


def test_the_longest_chain() -> None:
    dns = ZoneDns(ZONE)
    longest = chain(SETS_MAX)
    prepared = prepare(longest, read_header(longest))
    assert len(prepared.signatures) == MESSAGE_SIGNATURES
    result = asyncio.run(validate(prepared, dns, NOW))
    assert (result.result, len(result.sets)) == (Arc.PASS, SETS_MAX)
    assert result.oldest_pass == SETS_MAX - MESSAGE_SIGNATURES + 1
    assert [bool(each.results) for each in result.sets] == [True] * RESULTS_READ + [False] * (SETS_MAX - RESULTS_READ)
    assert dns.asked == [LIST.name]
    assert outcome(twice(longest, b"ARC-Seal", 1)) == (Arc.FAIL, f"the chain has more than {SETS_MAX} sets")


def test_thousands_of_fields() -> None:
    dns = ZoneDns(ZONE)
    message = b"".join(b"ARC-Seal: i=%d; cv=pass\r\n" % (number % 50 + 1) for number in range(20_000)) + MESSAGE
    assert outcome(message, dns) == (Arc.FAIL, f"the chain has more than {SETS_MAX} sets")
    assert dns.asked == []


def test_a_chain_with_another_body_costs_no_question() -> None:
    dns = ZoneDns(ZONE)
    assert outcome(THREE + b"more\r\n", dns) == (Arc.FAIL, "the body was changed")
    assert dns.asked == []


def test_a_body_is_hashed_once_for_all_signatures() -> None:
    digests = MessageDigests(THREE, read_header(THREE))
    prepared = prepare(THREE, read_header(THREE), digests=digests)
    hashes = {base64.b64encode(each.field.body_hash) for each in prepared.signatures}
    assert hashes == {base64.b64encode(digests.body(relaxed=True)[0])}
