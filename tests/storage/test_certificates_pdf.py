"""The certificate as a PDF: what people read in it, what is attached to it, and that both are the same."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from erasure_certificates import BEGUN, DAY, Signer, certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from storage.certificates import pdf
from storage.certificates.attachment import NAME, attached
from storage.certificates.certificate import Certificate, Remaining, Scope, StepDone
from storage.certificates.issuing import pages_match
from storage.certificates.remaining import remaining
from storage.certificates.signing import issue, verify
from storage.errors import InvalidInput
from storage.register.periods import STANDARD

SIGNER = Signer()
DOCUMENT = issue(certificate(), SIGNER)
PDF = pdf.render(DOCUMENT)


def words(made: Certificate) -> str:
    """What stands on the pages, in one line."""
    reader = PdfReader(BytesIO(pdf.render(issue(made, SIGNER))))
    assert 1 <= len(reader.pages) <= 2
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_the_pages_say_what_a_customer_files() -> None:
    text = words(certificate())
    for said in (
        "Certificate of erasure",
        "All data of the customer 'acme' was erased, but for what is named below as remaining. It cannot be read since"
        " 2026-05-28 20:26:43 UTC.",
        "mail.provider.example",
        "acme.example, xn--bcher-kva.example",
        "3 seconds after the order",
        "180,422",
        "9,411,203,377 bytes, with calendars, notes and contacts in them",
        "Clear, by cryptographic erase (NIST SP 800-88)",
        "generation 7 was destroyed and replaced by generation 8",
        "none can exist after 2026-06-27",
        "nothing was found",
        "SMTP transcripts until 2027-05-28 (required by law)",
        "holds nothing of a person any more",
        "a1b2c3d4e5f60718 in force from 2026-02-27 to 2026-05-27",
        "What a certificate cannot say",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            certificate(scope=Scope(12, 34, "acme", ())),
            "account number 34 of the customer 'acme' was erased",
        ),
        (certificate(keys=replace(certificate().keys, sanitization="purge")), "Purge of the media that hold the data"),
        (certificate(keys=replace(certificate().keys, sanitization="other")), "Level reached other"),
        (
            certificate(keys=replace(certificate().keys, key_ids=())),
            "Keys destroyed 2026-05-28 20:26:43 UTC Master",
        ),
        (
            certificate(keys=replace(certificate().keys, old_master_destroyed=False)),
            "not destroyed by this program",
        ),
        (certificate(keys=replace(certificate().keys, backups_until=None)), "no copy of the destroyed keys existed"),
        (certificate(keys=replace(certificate().keys, master_after=None)), "generation 7 was not replaced"),
        (certificate(keys=replace(certificate().keys, old_master_destroyed=False)), "for the operator to see to"),
        (certificate(search=replace(certificate().search, found=2)), "2 places were found"),
        (certificate(search=replace(certificate().search, thorough=True)), "other customers' folders too"),
        (certificate(processes_killed=1), "1 of them had to be ended by force"),
        (certificate(processes_until=BEGUN + DAY), "each of them is replaced until 2026-05-29"),
        (certificate(search=replace(certificate().search, unsearched=2)), "2 terms that say nothing where they stand"),
        (certificate(remaining=()), "of the customer's data remains"),
        (certificate(steps=(StepDone("a_new_step", BEGUN),)), "a new step"),
        (
            certificate(counts=replace(certificate().counts, entries=12_345)),
            "Entries 12,345 in calendars, address books and folders of files; notes are among the messages too Files"
            " 161,011, 9,411,203,377 bytes Withheld",
        ),
        (certificate(scope=Scope(1, None, "many", tuple(f"d{n}.example" for n in range(2000)))), "and 1,994 more"),
        (certificate(begun=BEGUN - 3 * DAY), "3 days after the order"),
        (certificate(issuer="<b>&amp;</b> \u4e2d\x00", finished=2**52), "<b>&amp;</b> ??"),
        (certificate(remaining=remaining(STANDARD, BEGUN, whole=True)), "Transcripts of the dialogues"),
        (certificate(remaining=tuple(Remaining(f"c{n}", f"Class {n}", "law", BEGUN) for n in range(20))), "Class 19"),
    ],
)
def test_every_case_has_its_words(made: Certificate, said: str) -> None:
    assert said in words(made)


def test_the_signed_document_is_attached() -> None:
    assert attached(PDF) == DOCUMENT
    assert verify(attached(PDF), SIGNER.public) == certificate()
    assert PdfReader(BytesIO(PDF)).attachments[NAME] == [DOCUMENT]  # as other programs see it


def test_the_same_document_gives_the_same_pages() -> None:
    assert pages_match(PDF, DOCUMENT)
    assert not pages_match(PDF.replace(b"page", b"Page", 1) + b"\n", DOCUMENT)
    assert not pages_match(PDF, issue(certificate(finished=BEGUN + 65), SIGNER))


def with_another_attachment() -> bytes:
    writer = PdfWriter(clone_from=BytesIO(PDF))
    writer.add_attachment("second.json", DOCUMENT)
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"%PDF-1.4\n", "No signed certificate is attached"),
        (PDF[:200], "No signed certificate is attached"),
        (PDF[: PDF.find(b"/EmbeddedFile") + 500], "it ends inside"),
        (PDF[: PDF.find(b"/EmbeddedFile") + 13], "cannot be read here"),
        (PDF + PDF, "Several files"),
        (with_another_attachment(), "Several files"),
        (PDF.replace(b"/Filter [  ] /Length", b"/Filter [/FlateDecode] /Length"), "cannot be read here"),
    ],
)
def test_what_has_no_certificate_attached(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        attached(data)


@settings(max_examples=60)
@given(st.integers(0, len(PDF) - 1), st.binary(min_size=1, max_size=30))
def test_a_damaged_pdf_never_verifies_as_another_certificate(place: int, octets: bytes) -> None:
    damaged = PDF[:place] + octets + PDF[place + len(octets) :]
    try:
        found = verify(attached(damaged), SIGNER.public)
    except InvalidInput:
        return
    assert found == certificate()
