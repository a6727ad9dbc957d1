"""Who stands behind a message: its authors, whom SPF and DKIM name, and what our field says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from email.parser import BytesHeaderParser
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.arc.result import Arc, ArcResult
from gateway.arc.results import read_results
from gateway.authentication import (
    AuthenticationFacts,
    Authors,
    Unknown,
    authenticated_domains,
    authentication_results,
    author_is_authentic,
    authors,
    path_is_authentic,
)
from gateway.authentication.authorship import ADDRESSES_MAX, FIELDS_MAX
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Dmarc, DmarcResult, Policy
from gateway.mx.header import authentication_results as our_field
from gateway.spf import Spf, SpfResult
from storage.mime.fields import read_header

NONE = DmarcResult(Dmarc.NONE, "example.org", reason="there is no policy")
ADA = Authors(("ada@example.org",), ("example.org",), 1)


def read(header: str | bytes) -> Authors:
    octets = header if isinstance(header, bytes) else header.encode()
    return authors(read_header(octets + b"\r\nSubject: x\r\n\r\n"))


# Authors


@pytest.mark.parametrize(
    ("header", "addresses", "domains", "clear"),
    [
        ("From: Ada <ada@Example.org>", ("ada@example.org",), ("example.org",), True),
        ("From: ada@example.org (Ada)", ("ada@example.org",), ("example.org",), True),
        ("from :\r\n ada@example.org.", ("ada@example.org",), ("example.org",), True),
        ('From: "bank@bank.example" <eve@evil.example>', ("eve@evil.example",), ("evil.example",), True),
        ("From: a@x.example, B <b@y.example>", ("a@x.example", "b@y.example"), ("x.example", "y.example"), True),
        ("From: a@x.example, b@X.example", ("a@x.example", "b@x.example"), ("x.example",), True),
        ("From: us: a@x.example;", ("a@x.example",), ("x.example",), True),
        ("From: jürgen@bücher.example", ("jürgen@xn--bcher-kva.example",), ("xn--bcher-kva.example",), True),
        # whatever one reader shows and another does not
        ("From: a@x.example\r\nFrom: b@y.example", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        ("From: a@x.example\r\nFrom: a@x.example", ("a@x.example", "a@x.example"), ("x.example",), False),
        # some readers take the first address, others the one in brackets
        ("From: a@x.example <b@y.example>", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        ("From: <a@x.example> <b@y.example>", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        ("From: a@x.example b @ y . example", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        ("From: a@x.example;b@y.example", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        ("From: a@x.example <b@y.(z)example>", ("a@x.example", "b@y.example"), ("x.example", "y.example"), False),
        (
            'From: a@x.example (" (x) ) <b@y.example> "',
            ("a@x.example", "b@y.example"),
            ("x.example", "y.example"),
            False,
        ),
        ('From: a@x.example <"b c"@y.example>', ("a@x.example",), ("x.example", "y.example"), False),
        (
            "From: a@x.example <b@\N{FULLWIDTH LATIN SMALL LETTER Y}.example>",
            ("a@x.example", "b@y.example"),
            ("x.example", "y.example"),
            False,
        ),
        ("From: a@x.example <A@X.example>", ("a@x.example",), ("x.example",), True),
        ("From: a@x.example <b@x.example>", ("a@x.example", "b@x.example"), ("x.example",), True),
        ("From: a@x.example (of b@y.example)", ("a@x.example",), ("x.example",), True),
        ("From: <@relay.example:a@x.example>", ("a@x.example",), ("x.example",), True),
        ("From: Ann @ Home <a@x.example>", ("a@x.example",), ("x.example",), False),
        ("To: a@x.example", (), (), False),
        ("From:", (), (), False),
        ("From: undisclosed:;", (), (), False),
        ("From: Ada", (), (), False),
        ("From: ada@localhost", (), (), False),
        ("From: ada@[192.0.2.1]", (), (), False),
        ("From: a@x.example, b@", ("a@x.example",), ("x.example",), False),
        ("From: a@x.example, b", ("a@x.example",), ("x.example",), False),
        ("From: <@x.example>", (), (), False),
        (b"From: a@x\xff.example", (), (), False),
        ("From: a@x..example", (), (), False),
        ("From: a@" + "x" * 64 + ".example", (), (), False),
        ("From: a@x/y.example", (), (), False),
        ("From: a@x\0.example", (), (), False),
    ],
)
def test_authors(header: str | bytes, addresses: tuple[str, ...], domains: tuple[str, ...], clear: bool) -> None:
    found = read(header)
    assert (found.addresses, found.domains, found.are_clear) == (addresses, domains, clear)


def test_authors_are_bounded() -> None:
    many = read("From: " + ", ".join(f"a@d{number}.example" for number in range(5000)))
    assert len(many.addresses) == ADDRESSES_MAX and not many.are_clear
    fields = read("\r\n".join(f"From: a@d{number}.example" for number in range(5000)))
    assert len(fields.addresses) == FIELDS_MAX and fields.fields == 5000 and not fields.are_clear


@given(st.text(st.sampled_from('ab@.,;:<>()"\\ \t-[]ü1'), max_size=40))
def test_any_from_field_is_read(value: str) -> None:
    found = read("From: " + value)
    assert found.fields == 1
    assert all(re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", domain) for domain in found.domains)


# What the parts say together


def facts(
    spf: SpfResult | None = None,
    dkim: tuple[DkimResult, ...] | None = (),
    dmarc: DmarcResult | None = NONE,
    found: Authors = ADA,
) -> AuthenticationFacts:
    return AuthenticationFacts(found, spf, dkim, ArcResult(Arc.NONE), dmarc)


def signed(*domains: str, result: Dkim = Dkim.PASS) -> tuple[DkimResult, ...]:
    return tuple(DkimResult(result, domain) for domain in domains)


def test_authenticated_domains() -> None:
    spf = SpfResult(Spf.PASS, "Bounce.Example.org.")
    assert authenticated_domains(facts(spf, signed("a.test", "b.test"))) == {"bounce.example.org", "a.test", "b.test"}
    assert authenticated_domains(facts(SpfResult(Spf.SOFTFAIL, "x.test"), signed("a.test", result=Dkim.FAIL))) == set()
    assert authenticated_domains(facts(None, None, None)) == set()


def test_the_reverse_path_is_authentic_by_spf_alone() -> None:
    assert path_is_authentic(facts(SpfResult(Spf.PASS, "example.org")))
    assert not path_is_authentic(facts(SpfResult(Spf.PASS, "mx.example.org", "helo")))
    assert not path_is_authentic(facts(SpfResult(Spf.NEUTRAL, "example.org")))
    assert not path_is_authentic(facts(None, signed("example.org")))


@pytest.mark.parametrize(
    ("dmarc", "domains", "authentic"),
    [
        (DmarcResult(Dmarc.PASS, "example.org"), (), True),  # DMARC knows better
        (DmarcResult(Dmarc.FAIL, "example.org"), ("org",), False),
        (DmarcResult(Dmarc.PERMERROR), ("example.org",), False),
        # without DMARC
        (NONE, ("example.org",), True),
        (NONE, ("x.test", "example.org"), True),
        (NONE, (), False),
        (NONE, ("mail.example.org",), False),  # anybody's, at a provider of subdomains
        (NONE, ("org",), False),
        (NONE, ("ample.org",), False),
        # while DNS does not say whether there is a policy
        (None, ("example.org",), True),
        (DmarcResult(Dmarc.TEMPERROR, "example.org"), ("example.org",), True),
    ],
)
def test_whether_the_author_is_authentic(dmarc: DmarcResult | None, domains: tuple[str, ...], authentic: bool) -> None:
    assert author_is_authentic(facts(None, signed(*domains), dmarc)) is authentic
    broken = replace(ADA, unreadable=1)
    assert not author_is_authentic(facts(None, signed(*domains), dmarc, broken))


def test_a_domain_stands_behind_those_below_it() -> None:
    below = Authors(("ada@news.example.org",), ("news.example.org",), 1)
    assert author_is_authentic(facts(None, signed("example.org"), NONE, below))
    for unknown in (None, DmarcResult(Dmarc.TEMPERROR, "news.example.org")):  # it may ask for strict alignment
        assert not author_is_authentic(facts(None, signed("example.org"), unknown, below))


def test_every_author_is_asked_for() -> None:
    both = Authors(("a@x.test", "b@y.test"), ("x.test", "y.test"), 1)
    assert author_is_authentic(facts(None, signed("y.test", "x.test"), NONE, both))
    assert not author_is_authentic(facts(None, signed("x.test"), NONE, both))


# Authentication-Results


def test_our_field() -> None:
    whole = AuthenticationFacts(
        ADA,
        SpfResult(Spf.PASS, "example.org"),
        (
            DkimResult(Dkim.PASS, "example.org", "s1", "@example.org", "rsa-sha256", signature="AbCd/fGh"),
            DkimResult(Dkim.FAIL, "list.example", "s2", reason="the body was changed"),
        ),
        ArcResult(Arc.PASS, (), 2),
        DmarcResult(Dmarc.PASS, "example.org", Policy.REJECT, "example.org", (), "example.org", Policy.REJECT),
        not_looked_at=3,
    )
    texts = authentication_results(whole, "none")
    assert texts == (
        "spf=pass smtp.mailfrom=example.org",
        'dkim=pass header.d=example.org header.s=s1 header.a=rsa-sha256 header.b="AbCd/fGh"',
        'dkim=fail reason="the body was changed" header.d=list.example header.s=s2',
        'dkim=policy reason="3 more signatures were not looked at"',
        "arc=pass header.oldest-pass=2",
        "dmarc=pass (p=reject dis=none) header.from=example.org polrec.p=reject",
    )
    field = our_field("mx.here.example", *texts)
    value = BytesHeaderParser(policy=default).parsebytes(field + b"\r\n")["Authentication-Results"]
    # Whoever reads such fields reads it as it was meant.
    assert [(each.method, each.result) for each in read_results(value)] == [
        ("spf", "pass"),
        ("dkim", "pass"),
        ("dkim", "fail"),
        ("dkim", "policy"),
        ("arc", "pass"),
        ("dmarc", "pass"),
    ]


def test_authres_reads_our_field() -> None:
    """A parser that is not ours."""
    authres = pytest.importorskip("authres", reason="authres is not installed: pip install '.[test]'")
    texts = authentication_results(
        facts(
            SpfResult(Spf.FAIL, "example.org"),
            (
                DkimResult(Dkim.PASS, "example.org", "s1", "ada@example.org", "rsa-sha256", signature="AbCd/f+h"),
                DkimResult(Dkim.NEUTRAL, reason="the signature cannot be read: it is no list of tags"),
            ),
            DmarcResult(Dmarc.FAIL, "example.org", Policy.NONE, reason="neither"),
        )
    )
    field = our_field("mx.here.example", *texts).decode()
    parsed = authres.AuthenticationResultsHeader.parse(field.replace("\r\n", ""))
    assert [(each.method, each.result) for each in parsed.results] == [
        ("spf", "fail"),
        ("dkim", "pass"),
        ("dkim", "neutral"),
        ("dmarc", "fail"),
    ]
    assert parsed.results[1].header_d == "example.org"


def test_what_is_unknown_says_why() -> None:
    unknown = (
        Unknown("spf", "not known in time"),
        Unknown("dkim", "not known in time"),
        Unknown("arc", "not known in time"),
        Unknown("dmarc", "the check did not work"),
    )
    late = AuthenticationFacts(ADA, None, None, None, None, unknown=unknown)
    assert authentication_results(late) == (
        'spf=temperror reason="not known in time"',
        'dkim=temperror reason="not known in time"',
        'dmarc=temperror reason="the check did not work"',
    )
    assert late.why_unknown("dmarc") == "the check did not work"
    assert facts().why_unknown("dmarc") == ""


def test_a_message_without_signatures_and_chain() -> None:
    assert authentication_results(facts(SpfResult(Spf.NONE, "a b;c"))) == (
        "spf=none",
        "dkim=none",
        'dmarc=none reason="there is no policy" header.from=example.org',
    )
