"""DANE: which records count, and which certificates they accept."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from authorities import Certified, authority, handshake, self_signed
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.answers import TlsaRecord
from gateway.tls_policy.certificates import NotDer, peer_chain, public_key
from gateway.tls_policy.dane import DanePolicy
from gateway.tls_policy.results import TlsOutcome

NAMES = ("mx.example.test", "example.test")
ROOT = authority()
MIDDLE = ROOT.issue("Middle", authority=True)
LEAF = MIDDLE.issue("mx.example.test")
STRANGER = authority("Stranger")


def digest(data: bytes, matching: int) -> bytes:
    return data if matching == 0 else (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()


def record(usage: int, selector: int, matching: int, of: Certified) -> TlsaRecord:
    return TlsaRecord(usage, selector, matching, digest(of.public_key if selector else of.der, matching))


def check(
    records: list[TlsaRecord], chain: list[bytes], names: tuple[str, ...] = NAMES, now: float | None = None
) -> TlsOutcome:
    policy = DanePolicy.of(records)
    assert policy is not None
    return policy.check(chain, names, time.time() if now is None else now)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_the_servers_own_certificate(selector: int, matching: int) -> None:
    """RFC 6698 §2.1: usage 3, every selector and matching type."""
    right, wrong = record(3, selector, matching, LEAF), record(3, selector, matching, STRANGER)
    assert check([right], LEAF.chain) is TlsOutcome.SUCCESS
    assert check([wrong], LEAF.chain) is TlsOutcome.TLSA_INVALID
    assert check([wrong, right], LEAF.chain) is TlsOutcome.SUCCESS


def test_neither_name_nor_date_of_the_servers_own_certificate_matter() -> None:
    """RFC 7672 §3.1.1."""
    old = self_signed("elsewhere.test", days=(-30, -1))
    assert check([record(3, 1, 1, old)], old.chain) is TlsOutcome.SUCCESS


def test_usage_3_is_for_the_first_certificate_alone() -> None:
    assert check([record(3, 1, 1, ROOT)], LEAF.chain) is TlsOutcome.TLSA_INVALID


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize("anchor", [ROOT, MIDDLE])
def test_an_authority(selector: int, matching: int, anchor: Certified) -> None:
    """RFC 7672 §3.1.2: usage 2."""
    assert check([record(2, selector, matching, anchor)], LEAF.chain) is TlsOutcome.SUCCESS


def test_a_whole_authority_need_not_be_in_the_chain() -> None:
    assert check([record(2, 0, 0, ROOT)], LEAF.chain[:2]) is TlsOutcome.SUCCESS
    assert check([record(2, 0, 1, ROOT)], LEAF.chain[:2]) is TlsOutcome.TLSA_INVALID


@pytest.mark.parametrize(
    ("certificate", "outcome"),
    [
        (MIDDLE.issue("other.test", "example.test"), TlsOutcome.SUCCESS),  # the next hop's name (§3.2.3)
        (MIDDLE.issue("*.example.test"), TlsOutcome.SUCCESS),
        (MIDDLE.issue("other.test"), TlsOutcome.CERTIFICATE_HOST_MISMATCH),
        (MIDDLE.issue("*.other.test"), TlsOutcome.CERTIFICATE_HOST_MISMATCH),
        (MIDDLE.issue("mx.example.test", days=(-30, -1)), TlsOutcome.CERTIFICATE_EXPIRED),
        (MIDDLE.issue("mx.example.test", days=(1, 30)), TlsOutcome.CERTIFICATE_EXPIRED),
        (MIDDLE.issue(), TlsOutcome.CERTIFICATE_NOT_TRUSTED),  # no name at all
        (LEAF.issue("mx.example.test"), TlsOutcome.CERTIFICATE_NOT_TRUSTED),  # issued by what is no authority
    ],
)
def test_what_an_authority_vouches_for_is_valid_and_ours(certificate: Certified, outcome: TlsOutcome) -> None:
    assert check([record(2, 1, 1, ROOT)], certificate.chain) is outcome


def test_a_chain_that_only_shows_the_authority_is_none() -> None:
    """Anybody can send a certificate that the records name: it must have signed."""
    forged = self_signed("mx.example.test")
    assert check([record(2, 1, 1, ROOT)], [forged.der, ROOT.der]) is TlsOutcome.CERTIFICATE_NOT_TRUSTED
    assert check([record(2, 0, 1, forged)], [forged.der]) is TlsOutcome.TLSA_INVALID


@pytest.mark.parametrize(
    "unusable",
    [
        record(0, 1, 1, ROOT),  # PKIX usages (RFC 7672 §3.1.3)
        record(1, 1, 1, LEAF),
        record(4, 1, 1, LEAF),
        record(3, 2, 1, LEAF),
        record(3, 1, 3, LEAF),
        TlsaRecord(3, 1, 1, b"short"),
        TlsaRecord(3, 1, 2, b"x" * 32),
        TlsaRecord(3, 1, 0, b""),
    ],
)
def test_records_that_cannot_be_used(unusable: TlsaRecord) -> None:
    assert DanePolicy.of([unusable]) is None
    assert check([unusable, record(3, 1, 1, LEAF)], LEAF.chain) is TlsOutcome.SUCCESS


def test_only_the_strongest_digest_counts() -> None:
    """RFC 7671 §9: for each usage and selector."""
    weak, strong = record(3, 1, 1, LEAF), record(3, 1, 2, STRANGER)
    assert check([weak, strong], LEAF.chain) is TlsOutcome.TLSA_INVALID
    assert check([weak, record(3, 0, 2, STRANGER)], LEAF.chain) is TlsOutcome.SUCCESS
    assert check([record(3, 1, 0, LEAF), strong], LEAF.chain) is TlsOutcome.SUCCESS


def test_no_certificate_is_no_match() -> None:
    assert check([record(3, 1, 1, LEAF)], []) is TlsOutcome.TLSA_INVALID


@given(st.binary(max_size=100), st.integers(0, 3), st.integers(0, 1))
def test_any_octets_as_certificates(octets: bytes, usage: int, selector: int) -> None:
    policy = DanePolicy.of([TlsaRecord(2, 0, 0, octets or b"x"), record(3, selector, 1, LEAF)])
    assert policy is not None
    assert policy.check([octets, octets], NAMES, time.time()) is not TlsOutcome.SUCCESS
    assert policy.check([octets], NAMES, time.time()) is not TlsOutcome.SUCCESS


@given(st.integers(0, len(LEAF.der) - 1), st.integers(0, 255))
def test_a_damaged_certificate_has_a_key_or_is_none(position: int, octet: int) -> None:
    damaged = LEAF.der[:position] + bytes((octet,)) + LEAF.der[position + 1 :]
    for octets in (damaged, LEAF.der[:position], LEAF.der + b"x"):
        with contextlib.suppress(NotDer):
            assert public_key(octets) in octets


def test_the_public_key_of_a_certificate() -> None:
    assert public_key(LEAF.der) == LEAF.public_key


def test_what_a_server_sent(tmp_path: Path) -> None:
    assert peer_chain(handshake(LEAF.server_context(tmp_path))) == LEAF.chain


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_what_openssl_makes(tmp_path: Path) -> None:
    """The certificates of a small private authority, with RSA keys and OpenSSL's own extensions."""

    def run(*words: str) -> bytes:
        return subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True).stdout

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Small CA")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "mx.key", "-out", "mx.csr", "-subj", "/CN=mx.example.test")
    (tmp_path / "names").write_text("subjectAltName=DNS:mx.example.test\n")
    run("x509", "-req", "-in", "mx.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "mx.pem",
        "-extfile", "names")  # fmt: skip
    chain = [run("x509", "-in", name, "-outform", "DER") for name in ("mx.pem", "ca.pem")]
    keys = []
    for name in ("mx.pem", "ca.pem"):
        (tmp_path / "public.pem").write_bytes(run("x509", "-in", name, "-noout", "-pubkey"))
        keys.append(run("pkey", "-pubin", "-in", "public.pem", "-outform", "DER"))
    assert [public_key(certificate) for certificate in chain] == keys
    assert check([TlsaRecord(2, 1, 1, hashlib.sha256(keys[1]).digest())], chain) is TlsOutcome.SUCCESS
    assert check([TlsaRecord(3, 1, 1, hashlib.sha256(keys[0]).digest())], chain) is TlsOutcome.SUCCESS
