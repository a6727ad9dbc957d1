"""SPF records and macros as text: what the suite of RFC 7208 leaves out, and properties of the parser."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spf.macros import EXPLAINING, LETTERS, Macro, MacroString, NotAscii, PermError, parse_domain, parse_string
from gateway.spf.record import OCTETS, Record, parse, select
from gateway.spf.result import Spf, SpfResult

# RFC 7208 §7.4
VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "p": "mx.example.org",
    "h": "mx.example.org",
    "v": "in-addr",
    "c": "192.0.2.3",
    "r": "receiver.example",
    "t": "1700000000",
}


@pytest.mark.parametrize(
    ("macro", "expanded"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("%{D2R}", "example.email"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("a%%b%_c%-d", "a%b c%20d"),
        ("%{l.-+,/_=}", "strong.bad"),
        ("%{d9999999}", "email.example.com"),
    ],
)
def test_expansion(macro: str, expanded: str) -> None:
    """RFC 7208 §7.4."""
    assert parse_string(macro).expand(VALUES) == expanded


def test_a_local_part_that_is_not_ascii_matches_nothing() -> None:
    """RFC 8616 §4."""
    with pytest.raises(NotAscii):
        parse_domain("%{l}.example.test").name({**VALUES, "l": "jürgen"})
    assert parse_domain("%{d}").name({**VALUES, "l": "jürgen"}) == "email.example.com"


def test_a_name_too_long_loses_labels_on_the_left() -> None:
    """RFC 7208 §7.3."""
    name = parse_domain("%{l}.x.example.test").name({**VALUES, "l": ".".join(["abcdefghi"] * 40)})
    assert len(name) <= 253
    assert name.endswith(".abcdefghi.x.example.test")
    assert len(name) > 240


@pytest.mark.parametrize("macros", ["%{o}." * 3000, "%{s}" * 4000, "%{Sr-}" * 2700])
def test_a_record_of_nothing_but_macros_costs_no_time(macros: str) -> None:
    """All of it runs on the event loop, for whoever names the domain."""
    values = {**VALUES, "o": "a." * 120 + "example", "s": "x" * 60 + "@" + "a." * 120 + "example"}
    begun = time.process_time()
    name = parse_domain(macros + "%{d}").name(values)
    assert time.process_time() - begun < 0.5  # it was ten seconds
    assert 240 < len(name) <= 253 and name.endswith("email.example.com")


@given(st.lists(st.sampled_from(["%{s}", "%{o}", "%{d2}", "%{l-}", "a.b.", ".", "x", "y" * 90, "."]), max_size=40))
def test_a_name_is_the_end_of_the_expansion(pieces: list[str]) -> None:
    """Labels are cut off until it fits, as the RFC says it."""
    macros = parse_string("".join(pieces))
    wanted = macros.expand(VALUES).removesuffix(".")
    while len(wanted) > 253 and "." in wanted:
        wanted = wanted.partition(".")[2]
    if len(wanted) <= 253:
        assert macros.name(VALUES) == wanted
    else:
        assert len(macros.name(VALUES)) > 253  # no name, whichever way it is cut


@pytest.mark.parametrize(
    "text", ["%", "%a", "%{", "%{d", "%{}", "%{q}", "%{d0}", "%{d2x}", "%{c}", "%{r}", "%{t}", "a b", "ü", "\x7f", "\0"]
)
def test_what_is_no_macro_string(text: str) -> None:
    with pytest.raises(PermError):
        parse_string(text)


@pytest.mark.parametrize("text", ["%{c}", "%{r}", "%{t}", "two words", ""])
def test_what_only_explanations_may_say(text: str) -> None:
    parse_string(text, letters=EXPLAINING, spaces=True)


@pytest.mark.parametrize(
    "text", ["a.b", "a.b.", "%{d}", "x%{d}", "%{d}.com", "a.%%", "_spf.x-y", "a..b", "a.1b", "a.b1"]
)
def test_domains(text: str) -> None:
    parse_domain(text)


@pytest.mark.parametrize("text", ["", "a", "com", "a.1", "a.-b", "a.b-", "%{d}com", "a.b..", ".", "a.b/c", "%{d}.1"])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(PermError):
        parse_domain(text)


@pytest.mark.parametrize(
    ("texts", "record"),
    [
        ([], None),
        ([b"v=spf1"], b"v=spf1"),
        ([b"V=SPF1 -all"], b"V=SPF1 -all"),
        ([b"v=spf10 -all", b"v=spf1\t-all", b" v=spf1 -all", b"v=spf2.0/pra -all", b"", b"v=spf"], None),
    ],
)
def test_selection(texts: list[bytes], record: bytes | None) -> None:
    """RFC 7208 §4.5."""
    assert select(texts) == record


def test_two_records_are_an_error() -> None:
    with pytest.raises(PermError):
        select([b"v=spf1 -all", b"v=spf1"])


def test_a_record() -> None:
    record = parse(
        b"v=spf1  A/24//64 -mx:%{d2}/8 ~ip4:192.0.2.7/24 ?ip6:2001:db8::/32 redirect=_spf.x.test exp=e.test x=y"
    )
    assert [(mechanism.name, mechanism.qualifier) for mechanism in record.mechanisms] == [
        ("a", Spf.PASS),
        ("mx", Spf.FAIL),
        ("ip4", Spf.SOFTFAIL),
        ("ip6", Spf.NEUTRAL),
    ]
    a, mx, four, six = record.mechanisms
    assert (a.domain, a.prefix4, a.prefix6, a.text) == (None, 24, 64, "A/24//64")
    assert (mx.domain, mx.prefix4, mx.prefix6) == (MacroString((Macro("d", 2, False, "."),)), 8, 128)
    assert (str(four.network), str(six.network)) == ("192.0.2.0/24", "2001:db8::/32")
    assert record.redirect == MacroString(("_spf.x.test",))
    assert record.explanation == MacroString(("e.test",))


@pytest.mark.parametrize(
    "term",
    [
        "all:x.test",
        "include",
        "include:",
        "a:",
        "a/33",
        "a//129",
        "a/01",
        "a/",
        "a//",
        "a/24/64",
        "mx:x",
        "ptr/8",
        "ip4",
        "ip4:",
        "ip4:1.2.3",
        "ip4:01.2.3.4",
        "ip4:1.2.3.4/",
        "ip4:1.2.3.4/x",
        "ip4:2001:db8::1",
        "ip6:1.2.3.4",
        "ip6:fe80::1%eth0",
        "ip6:::/129",
        "exists",
        "+",
        "--all",
        "+-all",
        "unknown",
        "=x",
        "1x=y",
        "redirect=",
        "redirect=x",
        "exp=",
        "x=%",
        "\tall",
        "all\n",
        "all\0",
    ],
)
def test_errors(term: str) -> None:
    with pytest.raises(PermError):
        parse(b"v=spf1 " + term.encode())


def test_a_record_without_end_is_not_read() -> None:
    with pytest.raises(PermError, match="too long"):
        parse(b"v=spf1 " + b"ip4:192.0.2.1 " * OCTETS)


@given(st.binary(max_size=200))
def test_any_octets_are_a_record_or_an_error(octets: bytes) -> None:
    try:
        assert isinstance(parse(b"v=spf1 " + octets), Record)
    except PermError as error:
        assert str(error)


_TERM = st.one_of(
    st.sampled_from(["all", "a", "mx", "ptr", "a:x.test", "mx/24//64", "include:%{d2}", "exists:%{ir}.x.test", "a:%%"]),
    st.ip_addresses(v=4).map(lambda address: f"ip4:{address}"),
    st.ip_addresses(v=6).map(lambda address: f"ip6:{address}/64"),
    st.sampled_from(["foo=bar", "f.o-o_1=%{d}", "x="]),
)


@given(st.lists(st.tuples(st.sampled_from(["", "+", "-", "~", "?"]), _TERM, st.integers(1, 3)), max_size=30))
def test_what_the_grammar_makes_is_parsed(terms: list[tuple[str, str, int]]) -> None:
    text, mechanisms = "v=spf1", []
    for qualifier, term, spaces in terms:
        is_modifier = "=" in term
        text += " " * spaces + ("" if is_modifier else qualifier) + term
        mechanisms += [] if is_modifier else [qualifier + term]
    assert [mechanism.text for mechanism in parse(text.encode()).mechanisms] == mechanisms


@given(st.text(alphabet=st.sampled_from("%{}slodi23r.-+,/_=ab "), max_size=40))
def test_any_macro_string_expands_or_is_an_error(text: str) -> None:
    try:
        macros = parse_string(text, letters=LETTERS, spaces=True)
    except PermError:
        return
    assert macros.expand(VALUES).isascii()


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (SpfResult(Spf.PASS, "example.org"), "spf=pass smtp.mailfrom=example.org"),
        (SpfResult(Spf.FAIL, "mx.example.org", "helo"), "spf=fail smtp.helo=mx.example.org"),
        (SpfResult(Spf.NONE, "[192.0.2.1]", "helo"), "spf=none"),
        (SpfResult(Spf.NONE, "x; dkim=pass header.d=y", "helo"), "spf=none"),
        (SpfResult(Spf.NONE, "x\r\nBcc: y", "helo"), "spf=none"),
        (SpfResult(Spf.NONE, "a\n", "helo"), "spf=none"),
    ],
)
def test_what_authentication_results_say(result: SpfResult, said: str) -> None:
    """RFC 8601 §2.7.2; a HELO name is a stranger's text."""
    assert result.authentication_result == said
