"""Certificates of erasure: the same octets for the same facts, and nothing changed, cut or mixed up verifies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from erasure_certificates import BEGUN, INSTALLATION, Signer, certificate
from hypothesis import given
from hypothesis import strategies as st

from storage.certificates.certificate import Certificate, HeldBack, KeysDestroyed, Remaining, Scope, canonical
from storage.certificates.signing import issue, key_id, pem, read_key, verify
from storage.certificates.store import Certificates
from storage.errors import Conflict, Corrupt, InvalidInput, NotFound
from storage.keys.destruction import Destroyed

SIGNER = Signer()
DOCUMENT = issue(certificate(), SIGNER)


def test_what_was_signed_verifies_and_says_the_same() -> None:
    assert verify(DOCUMENT, SIGNER.public) == certificate()
    assert verify(DOCUMENT, SIGNER.public, installation_id=INSTALLATION) == certificate()
    assert issue(certificate(), SIGNER) == DOCUMENT


def test_how_the_document_is_written_down_does_not_matter() -> None:
    turned = json.dumps(dict(reversed(json.loads(DOCUMENT).items())), indent=4).encode()
    assert turned != DOCUMENT
    assert verify(turned, SIGNER.public) == certificate()


def test_the_canonical_form_is_that_of_rfc_8785() -> None:
    assert canonical({"b": 1, "a": [True, None, "ü\n\x01"]}) == '{"a":[true,null,"ü\\n\\u0001"],"b":1}'.encode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.integers(0, 2**53 - 1)


@given(
    name=texts,
    domains=st.lists(texts, max_size=5),
    account=st.none() | numbers,
    until=st.none() | numbers,
    killed=numbers,
)
def test_every_certificate_comes_back_as_it_was(
    name: str, domains: list[str], account: int | None, until: int | None, killed: int
) -> None:
    made = certificate(
        scope=Scope(1, account, name, tuple(domains)),
        remaining=(Remaining(name, name, "law", until),),
        holds=(HeldBack("x", 1, killed),) * 2,
        processes_killed=killed,
    )
    assert Certificate.from_json(made.to_json()) == made
    assert verify(issue(made, SIGNER), SIGNER.public) == made


@pytest.mark.parametrize("entries", [None, 0, 12_345])
def test_entries_may_be_missing_as_in_certificates_of_before(entries: int | None) -> None:
    made = certificate(counts=replace(certificate().counts, entries=entries))
    document = issue(made, SIGNER)
    assert (b'"entries"' in document) is (entries is not None)
    assert verify(document, SIGNER.public) == made
    assert verify(document, SIGNER.public).to_json() == made.to_json()  # the octets that were signed


def test_facts_of_destroyed_keys_are_taken_over() -> None:
    destroyed = Destroyed(("a", "b"), 5, 1, None, "a command", False, "clear", (), None)
    assert asdict(KeysDestroyed.of(destroyed)) == asdict(destroyed)


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    values = json.loads(DOCUMENT)
    change(values)
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (_with(lambda v: v["certificate"].update(unreadable=BEGUN + 2)), "changed after it had been signed"),
        (_with(lambda v: v["certificate"]["counts"].update(messages=1)), "changed after it had been signed"),
        (_with(lambda v: v["certificate"]["scope"]["domains"].pop()), "changed after it had been signed"),
        (_with(lambda v: v["certificate"].update(extra=1)), "changed after it had been signed"),
        (_with(lambda v: v["signature"].update(value="00" * 64)), "changed after it had been signed"),
        (_with(lambda v: v["signature"].update(value="00")), "changed after it had been signed"),
        (_with(lambda v: v["signature"].update(value="no")), "signature cannot be read"),
        (_with(lambda v: v["signature"].update(key_id="0" * 16)), "not with the key"),
        (_with(lambda v: v["signature"].update(algorithm="none")), "another algorithm"),
        (_with(lambda v: v.update(signature=None)), "has no signature"),
        (_with(lambda v: v.pop("signature")), "no certificate of erasure"),
        (_with(lambda v: v["certificate"].update(counts="\ud800")), "signature cannot be read"),
        (DOCUMENT[:-2], "damaged"),
        (DOCUMENT[: len(DOCUMENT) // 2], "damaged"),
        (b"", "damaged"),
        (b"[1.5]", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"9" * 10_000, "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"{}", "no certificate of erasure"),
        (b"[]", "no certificate of erasure"),
        (DOCUMENT.replace(b'"program":', b'"program":"other","program":'), "damaged"),  # readers see one or the other
    ],
)
def test_what_does_not_verify(document: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        verify(document, SIGNER.public)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(format=2), "another version"),
        (lambda v: v.update(kind="a bill"), "no certificate of erasure"),
        (lambda v: v.update(begun="today"), "does not hold what"),
        (lambda v: v.update(begun=True), "does not hold what"),
        (lambda v: v.update(begun=2**53), "does not hold what"),
        (lambda v: v.update(steps={}), "does not hold what"),
        (lambda v: v["keys"].pop("at"), "does not hold what"),
        (lambda v: v.pop("search"), "does not hold what"),
    ],
)
def test_what_is_signed_but_no_certificate(change: Callable[[dict[str, Any]], object], sentence: str) -> None:
    values = json.loads(certificate().to_json())
    change(values)
    signature = {"algorithm": "Ed25519", "key_id": key_id(SIGNER.public)}
    value = SIGNER.sign("certificate", canonical(values)).hex()
    document = canonical({"certificate": values, "signature": {**signature, "value": value}})
    with pytest.raises(InvalidInput, match=sentence):
        verify(document, SIGNER.public)


def test_a_signature_for_another_purpose_is_none() -> None:
    values = json.loads(DOCUMENT)
    values["signature"]["value"] = SIGNER.sign("manifest", certificate().to_json()).hex()
    with pytest.raises(InvalidInput, match="not genuine"):
        verify(canonical(values), SIGNER.public)


def test_another_key_and_another_installation_are_said() -> None:
    other = Signer(b"\x01" * 32)
    with pytest.raises(InvalidInput, match=f"not with the key {key_id(other.public)}"):
        verify(DOCUMENT, other.public)
    with pytest.raises(InvalidInput, match="another installation, c0ffee"):
        verify(DOCUMENT, SIGNER.public, installation_id="0" * 32)


@pytest.mark.parametrize(
    "text",
    [SIGNER.public.hex().encode(), b" " + SIGNER.public.hex().upper().encode() + b"\n", pem(SIGNER.public).encode()],
)
def test_keys_as_people_have_them(text: bytes) -> None:
    assert read_key(text) == SIGNER.public


@pytest.mark.parametrize(
    "text", [b"", b"00", b"zz" * 32, b"\xff", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="no Ed25519 public key"):
        read_key(text)


def test_other_programs_can_verify_it(tmp_path: Path) -> None:
    """As docs/decisions/0026-certificates.md tells auditors to."""
    values = json.loads(DOCUMENT)
    (tmp_path / "key.pem").write_text(pem(SIGNER.public))
    (tmp_path / "signed").write_bytes(canonical(values["certificate"]))
    (tmp_path / "signature").write_bytes(bytes.fromhex(values["signature"]["value"]))
    command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile signature"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout, done.stderr


def test_the_ledger_has_them_in_order(tmp_path: Path) -> None:
    store = Certificates(tmp_path)
    assert store.all() == []
    later = certificate(certificate_id="bb", finished=BEGUN + 500)
    store.keep(issue(later, SIGNER))
    store.keep(DOCUMENT, b"%PDF")
    store.keep(DOCUMENT, b"%PDF")
    assert store.all() == [certificate(), later]
    assert store.since(BEGUN + 65) == [later]
    assert store.document(certificate().certificate_id) == DOCUMENT
    assert store.pdf(certificate().certificate_id) == b"%PDF"
    assert store.show("bb") == later
    with pytest.raises(Conflict):
        store.keep(issue(replace(later, finished=1), SIGNER))
    for number in ("none", "../control", ""):
        with pytest.raises(NotFound):
            store.document(number)
    (tmp_path / "certificates" / "cc.json").write_bytes(b"{}")
    assert store.damaged() == ["cc"] and store.all() == [certificate(), later]  # one keeps none of the others
    assert store.remove_before(BEGUN + 65) == 1 and store.damaged() == ["cc"]
    with pytest.raises(Corrupt):
        store.show("cc")
