"""The names by which clients introduce themselves: a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content_facts import HelloFinding, hello_findings

OURS = "mx.ours.example"


@pytest.mark.parametrize(
    ("hello", "address", "name", "findings"),
    [
        ("mail.a.test", "192.0.2.1", "mail.a.test", set()),
        ("mail.a.test.", "192.0.2.1", "mail.a.test", set()),
        ("mail.a.test", "192.0.2.1", None, set()),
        ("mail.a.test", "192.0.2.1", "", {HelloFinding.NO_REVERSE_NAME}),
        ("", "192.0.2.1", None, {HelloFinding.EMPTY}),
        ("mail", "192.0.2.1", None, {HelloFinding.BARE_WORD}),
        ("localhost", "192.0.2.1", None, {HelloFinding.LOCAL_NAME}),
        ("localhost.localdomain", "192.0.2.1", None, {HelloFinding.LOCAL_NAME}),
        ("pc.lan", "192.0.2.1", None, {HelloFinding.LOCAL_NAME}),
        ("my host", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("-a.test", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("a..test", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("bücher.test", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("1.2.3", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("192.0.2.1", "192.0.2.1", None, {HelloFinding.BARE_ADDRESS}),
        ("192.0.2.9", "192.0.2.1", None, {HelloFinding.BARE_ADDRESS, HelloFinding.OTHER_ADDRESS}),
        ("[192.0.2.1]", "192.0.2.1", None, set()),
        ("[192.0.2.1]", "::ffff:192.0.2.1", None, set()),
        ("[192.0.2.9]", "192.0.2.1", None, {HelloFinding.OTHER_ADDRESS}),
        ("[203.0.113.5]", "192.0.2.1", None, {HelloFinding.OUR_ADDRESS}),
        ("[203.0.113.5]", "203.0.113.5", None, set()),
        ("[IPv6:2001:db8::1]", "2001:db8::1", None, set()),
        ("[IPv6:2001:db8::2]", "2001:db8::1", None, {HelloFinding.OTHER_ADDRESS}),
        ("[nothing]", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("[", "192.0.2.1", None, {HelloFinding.MALFORMED}),
        ("MX.ours.example", "192.0.2.1", None, {HelloFinding.OUR_NAME}),
        ("gmail.com", "192.0.2.1", "a.test", {HelloFinding.FORGED}),
        ("mail.google.com", "192.0.2.1", "", {HelloFinding.FORGED, HelloFinding.NO_REVERSE_NAME}),
        ("mail-1.google.com", "192.0.2.1", "mail-1.google.com", set()),
        ("gmail.com", "192.0.2.1", None, set()),
        ("notgmail.com", "192.0.2.1", "a.test", set()),
        ("a.test", "192.0.2.77", "dsl-192-0-2-77.isp.test", {HelloFinding.CUSTOMER_LINE}),
        ("a.test", "192.0.2.77", "77.2.0.192.pool.isp.test", {HelloFinding.CUSTOMER_LINE}),
        ("a.test", "192.0.2.77", "c000024d.isp.test", {HelloFinding.CUSTOMER_LINE}),
        ("a.test", "192.0.2.77", "static-192-0-2-77.isp.test", set()),
        ("a.test", "192.0.2.77", "mail77.isp.test", set()),
    ],
)
def test_names(hello: str, address: str, name: str | None, findings: set[HelloFinding]) -> None:
    assert hello_findings(hello, address, name, OURS, ("203.0.113.5",)) == findings


@given(st.text(max_size=300), st.text(max_size=60), st.none() | st.text(max_size=100))
def test_whatever_is_said_gets_findings_with_sentences(hello: str, address: str, name: str | None) -> None:
    assert all(finding.sentence for finding in hello_findings(hello, address, name, OURS))
