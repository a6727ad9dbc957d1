"""DKIM signatures: what is signed, and that others verify it (dkimpy here, OpenDKIM where it is installed)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dkim.author import author_domain
from gateway.dkim.canonical import relaxed_body, relaxed_field
from gateway.dkim.keys import SigningKey, generate, load, read_record, record_text
from gateway.dkim.signature import SAME_MAX, sign
from storage.directory.dkim_keys import DkimAlgorithm, DkimPrivateKey
from storage.errors import Corrupt
from storage.mime.fields import read_header
from storage.values import Domain

DOMAIN = Domain.parse("example.org")
TIME = 1_750_000_000
MESSAGE = (
    b"Received: from a by b; now\r\n"
    b"From: Ada <ada@example.org>\r\n"
    b"To: Bob <bob@example.net>\r\n"
    b"Subject: =?utf-8?q?H=C3=A4?=\r\n more\t of it \r\n"
    b"Date: Mon, 4 May 2026 08:00:00 +0200\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://example.org/u>\r\n"
    b"\r\n"
    b"Text  with \tblanks \r\n\r\n.dots\r\n-- \r\nAda\r\n\r\n\r\n"
)

PAIRS = {algorithm: generate(algorithm) for algorithm in DkimAlgorithm}
KEYS = [
    load(DkimPrivateKey(DOMAIN, f"s-{algorithm}", algorithm, pair.private_key)) for algorithm, pair in PAIRS.items()
]
RECORDS = {
    f"s-{algorithm}._domainkey.{DOMAIN}": record_text(algorithm, pair.public_key) for algorithm, pair in PAIRS.items()
}


def verified(signed: bytes) -> list[bool]:
    """Whether each signature of the message holds, as dkimpy sees it."""

    def look_up(name: bytes | str, timeout: int = 5) -> bytes | None:
        text = name.decode() if isinstance(name, bytes) else name
        found = RECORDS.get(text.rstrip("."))
        return found.encode() if found is not None else None

    message = dkim.DKIM(signed)
    number = signed.lower().count(b"dkim-signature:")
    return [bool(message.verify(idx=index, dnsfunc=look_up)) for index in range(number)]


def holds(signed: bytes) -> bool:
    try:
        found = verified(signed)
    except dkim.DKIMException:
        return False
    assert len(set(found)) == 1, found  # the signatures agree
    return found[0]


def signed(content: bytes, keys: list[SigningKey] = KEYS) -> bytes:
    return sign(content, keys, TIME) + content


def tags(field: bytes) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in re.sub(rb"\s+", b"", field).decode().split(":", 1)[1].split(";"))
    return dict(pairs)


# What is hashed


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        (b"a", b" X\r\n", b"a:X\r\n"),  # RFC 6376 §3.4.5
        (b"b", b" Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"c", b"\r\n", b"c:\r\n"),
        (b"d", b"", b"d:\r\n"),
        (b"e", b"\r\n \r\n \t x\r\n", b"e:x\r\n"),
        (b"f", b" without a line end", b"f:without a line end\r\n"),
        (b"g", " ä  ö\r\n".encode(), "g:ä ö\r\n".encode()),
    ],
)
def test_relaxed_fields(name: bytes, value: bytes, canonical: bytes) -> None:
    assert relaxed_field(name, value) == canonical


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),  # RFC 6376 §3.4.5
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\n\r\n\r\n", b""),
        (b" \t \r\n\r\n", b""),
        (b"x", b"x\r\n"),
        (b"x \t", b"x\r\n"),  # SMTP ends the line that has no end
        (b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n"),
        (b"\t\tx\r\n", b" x\r\n"),
        (b"a\rb\nc\r\n", b"a\rb\nc\r\n"),
        (b"x\r\n \r\n\t\r\n", b"x\r\n"),
    ],
)
def test_relaxed_bodies(body: bytes, canonical: bytes) -> None:
    assert relaxed_body(b"header" + body, 6) == canonical


# The field


def test_both_algorithms_verify_and_each_stands_for_itself() -> None:
    assert verified(signed(MESSAGE)) == [True, True]
    for key in KEYS:
        assert verified(signed(MESSAGE, [key])) == [True]


def test_no_keys_no_signature() -> None:
    assert sign(MESSAGE, [], TIME) == b""


def test_the_tags_of_a_signature() -> None:
    found = tags(sign(MESSAGE, KEYS[:1], TIME))
    assert found["v"] == "1" and found["d"] == "example.org" and found["s"] == "s-rsa" and found["t"] == str(TIME)
    assert found["a"] == "rsa-sha256" and found["c"] == "relaxed/relaxed"
    assert "l" not in found and "x" not in found
    names = found["h"].split(":")
    assert {name: names.count(name) for name in ("From", "Reply-To", "Cc", "Date", "Sender", "List-Unsubscribe")} == {
        "From": 2,  # one more than there are: nobody can add another
        "Reply-To": 1,
        "Cc": 1,
        "Date": 2,
        "Sender": 0,
        "List-Unsubscribe": 1,
    }
    assert "Received" not in names


def test_no_line_of_the_field_is_longer_than_78_octets() -> None:
    content = MESSAGE.replace(b"\r\n\r\n", b"\r\nCc: x@example.net\r\nReferences: <1@x>\r\nSender: a@x\r\n\r\n", 1)
    lines = sign(content, KEYS, TIME).split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line.startswith((b"DKIM-Signature:", b"\t")) for line in lines[:-1]) and lines[-1] == b""
    assert holds(signed(content))


@pytest.mark.parametrize(
    "content",
    [
        b"From: a@example.org\r\n\r\n",
        b"From: a@example.org\r\n",  # a header alone
        b"From: a@example.org\r\n\r\nno line end",
        b"From: a@example.org\r\n\r\n\r\n\r\n",
        b"FROM: a@example.org\r\nsubject:\r\n\r\nx\r\n",
        "From: Ä <ä@example.org>\r\nSubject: ü\r\n\r\nö\r\n".encode(),
        b"From: a@example.org\r\nReferences: " + b"\r\n ".join([b"<%d@x>" % n for n in range(500)]) + b"\r\n\r\nx\r\n",
        b"From: a@example.org\r\n" + b"Subject: many\r\n" * (SAME_MAX + 5) + b"\r\nx\r\n",
        b"From: a@example.org\r\n\r\n" + b"x" * 5000 + b"\r\n" + b" " * 5000 + b"\r\n",
    ],
)
def test_odd_messages_verify(content: bytes) -> None:
    whole = signed(content)
    if not whole.endswith(b"\r\n"):
        whole += b"\r\n"  # as SMTP sends it
    assert holds(whole)


TEXT = st.text(st.sampled_from(list("ab \tä.=-\0")), max_size=30).map(str.encode)
VALUE = st.lists(TEXT, min_size=1, max_size=4).map(b"\r\n ".join)
NAME = st.sampled_from([b"Subject", b"To", b"X-Other", b"reply-to", b"CC", b"Content-Type", b"List-Id", b"sender"])
HEADER = st.lists(st.tuples(NAME, VALUE), max_size=8)
BODY = st.lists(TEXT, max_size=8).map(b"\r\n".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HEADER, BODY)
def test_whatever_the_message_says_its_signature_verifies(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    header = b"".join(name + b": x" + value + b"\r\n" for name, value in fields)
    content = b"From: a@example.org\r\n" + header + b"\r\n" + body + b"\r\n"
    assert holds(signed(content))


# What may happen on the way, and what may not


@pytest.mark.parametrize(
    ("old", "new", "survives"),
    [
        (b"Subject: ", b"SUBJECT:   ", True),
        (b"\r\n more\t of it \r\n", b" more of it\r\n", True),  # folded anew
        (b"with \tblanks \r\n", b"with blanks\r\n", True),
        (b"Ada\r\n\r\n\r\n", b"Ada\r\n", True),
        (b"Received: ", b"Received: from x; now\r\nReceived: ", True),
        (b"more", b"less", False),
        (b"blanks", b"blank", False),
        (b"-- \r\nAda\r\n", b"-- \r\nAda\r\nfooter\r\n", False),
        (b"ada@", b"eve@", False),
        (b"To: ", b"From: eve@example.org\r\nTo: ", False),  # RFC 6376 §8.15
        (b"Date: ", b"From: eve@example.org\r\nDate: ", False),
        (b"To: ", b"Subject: another\r\nTo: ", False),
        (b"To: ", b"Cc: everybody@example.net\r\nTo: ", False),
        (b"To: ", b"Reply-To: eve@example.com\r\nTo: ", False),
        (b"To: ", b"Content-Type: text/html\r\nTo: ", False),
        (b"MIME-Version: 1.0\r\n", b"", False),
        (b"List-Unsubscribe: <https://example.org/u>\r\n", b"", False),
    ],
)
def test_what_a_signature_survives(old: bytes, new: bytes, survives: bool) -> None:
    assert old in MESSAGE
    assert holds(sign(MESSAGE, KEYS, TIME) + MESSAGE.replace(old, new, 1)) is survives


@pytest.mark.skipif(shutil.which("opendkim", path="/usr/sbin:/usr/bin") is None, reason="OpenDKIM is not installed")
@pytest.mark.parametrize("key", KEYS, ids=lambda key: str(key.algorithm))
def test_opendkim_verifies(key: SigningKey, tmp_path: Path) -> None:
    program = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
    assert program is not None
    (tmp_path / "keys").write_text("".join(f"{name} {record}\n" for name, record in RECORDS.items()))
    (tmp_path / "conf").write_text(f"Mode v\nTestPublicKeys {tmp_path}/keys\nSyslog no\n")
    for content, verdict in ((MESSAGE, "succeeded"), (MESSAGE.replace(b"Ada", b"Eve"), "failed")):
        (tmp_path / "message").write_bytes(sign(MESSAGE, [key], TIME) + content)
        said = subprocess.run(
            [program, "-x", str(tmp_path / "conf"), "-t", str(tmp_path / "message"), "-v"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert verdict in said.stdout, said


# Keys and their records


def test_the_record_of_rfc_8463() -> None:
    """RFC 8463 appendix A.2: the public half of RFC 8032's first test key."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pkcs8 = bytes.fromhex("302e020100300506032b657004220420") + secret
    key = load(DkimPrivateKey(Domain.parse("football.example.com"), "brisbane", DkimAlgorithm.ED25519, pkcs8))
    text = record_text(DkimAlgorithm.ED25519, key.key.public_key().public_bytes_raw())  # type: ignore[union-attr]
    assert text == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize("algorithm", list(DkimAlgorithm))
def test_a_record_reads_back(algorithm: DkimAlgorithm) -> None:
    public = PAIRS[algorithm].public_key
    found = read_record(record_text(algorithm, public))
    assert found is not None and (found.algorithm, found.public_key) == (algorithm, public)


@pytest.mark.parametrize(
    ("text", "algorithm", "public"),
    [
        ("p=AAAA", "rsa", b"\0\0\0"),
        ("v=DKIM1; p=", "rsa", b""),
        ("v = DKIM1 ; k = ed25519 ; p = AA AA\r\n ;", "ed25519", b"\0\0\0"),
        ("v=DKIM1; t=s; s=email; n=note=1; p=AAAA;", "rsa", b"\0\0\0"),
        ("v=DKIM1; p=*", "rsa", None),
    ],
)
def test_records_of_others(text: str, algorithm: str, public: bytes | None) -> None:
    found = read_record(text)
    assert found is not None and (found.algorithm, found.public_key) == (algorithm, public)


@pytest.mark.parametrize(
    "text", ["", "v=DKIM1", "v=DKIM2; p=AAAA", "p=AAAA; v=DKIM1", "p=AAAA; p=BBBB", "v=spf1 -all", "text; p=AAAA"]
)
def test_what_is_no_record(text: str) -> None:
    assert read_record(text) is None


@given(st.text(st.sampled_from(list("v=DKIM1;kpars A+/\t\r\n0")), max_size=40))
def test_no_record_is_too_odd_to_be_read(text: str) -> None:
    found = read_record(text)
    assert found is None or found.public_key is None or isinstance(found.public_key, bytes)


@pytest.mark.parametrize("octets", [b"", b"\x30\x03\x02\x01\x00", PAIRS[DkimAlgorithm.RSA].public_key])
def test_a_damaged_key_is_named(octets: bytes) -> None:
    with pytest.raises(Corrupt):
        load(DkimPrivateKey(DOMAIN, "s", DkimAlgorithm.RSA, octets))


# The author


@pytest.mark.parametrize(
    ("header", "domain"),
    [
        (b"From: Ada <ada@Example.ORG>", "example.org"),
        (b"from:ada@example.org (Ada)", "example.org"),
        (b"From: a@example.org,\r\n b@example.org", "example.org"),
        (b"From: a@example.org, b@example.net", None),
        (b"From: a@example.org\r\nFrom: a@example.org", None),
        (b"From: Ada", None),
        (b"From: undisclosed:;", None),
        (b"From: team: a@example.org;", "example.org"),
        (b"From: <@route.example:a@example.org>", "example.org"),
        (b"From: a@[192.0.2.1]", None),
        (b"From: a@localhost", None),
        ("From: a@bücher.example".encode(), "xn--bcher-kva.example"),
        (b"From: a@\xff.example", None),
        (b'From: "b@example.net" <a@example.org>', "example.org"),
        (b"X-From: a@example.org", None),
        (b"Sender: a@example.org", None),
    ],
)
def test_the_author_is_the_domain_of_from(header: bytes, domain: str | None) -> None:
    found = author_domain(header + b"\r\n\r\nFrom: text@example.com\r\n")
    assert (found.name if found else None) == domain


@given(
    st.lists(
        st.sampled_from([b"From:", b"from :", b" a@b.c", b"<", b">", b'"', b",", b"\r\n", b"\n", b"\xff", b"("]),
        max_size=20,
    )
)
def test_no_header_is_too_odd_for_an_author(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    author_domain(content)
    sign(content, KEYS[1:], TIME)


def test_nothing_is_signed_that_is_not_in_the_header() -> None:
    content = b"From: a@example.org\r\n\r\nSubject: x\r\n"
    assert read_header(content).end == content.index(b"Subject")
    assert tags(sign(content, KEYS[:1], TIME))["h"].split(":").count("Subject") == 1
