"""The certificate as people file it: a PDF of one or two pages with the signed document as its attachment. Pure.

The same document always gives the same octets, so whoever has this program can compare the pages with what is signed
(`storage.certificates.issuing`). reportlab takes a moment to load: import this module where a page is made, not before.

Standards: ISO 32000-1 §7.11.4 (embedded files).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfdoc import PDFArray, PDFDictionary, PDFName, PDFStream, PDFString
from reportlab.platypus import HRFlowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from storage.certificates import facts
from storage.certificates.attachment import NAME
from storage.certificates.certificate import Certificate
from storage.certificates.signing import read, signature_of

_PADDING = 6  # points: reportlab's around a frame
_GREY = HexColor("#444444")


def render(document: bytes) -> bytes:
    """The PDF of a signed document."""
    certificate = read(document)
    file = BytesIO()
    template = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=22 * mm,
        rightMargin=22 * mm,
        topMargin=20 * mm,
        bottomMargin=20 * mm,
        invariant=1,
        pageCompression=1,
        title=f"Certificate of erasure {certificate.certificate_id}",
        subject=facts.subject(certificate),
        author=facts.plain(certificate.issuer or f"installation {certificate.installation_id}"),
        creator=facts.plain(certificate.program),
        lang="en",
    )
    foot = facts.foot(certificate)

    def each_page(canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillGray(0.4)
        canvas.drawString(22 * mm + _PADDING, 11 * mm, foot)
        canvas.drawRightString(A4[0] - 22 * mm - _PADDING, 11 * mm, f"page {canvas.getPageNumber()}")
        canvas.restoreState()
        if canvas.getPageNumber() == 1:
            _attach(canvas, document)

    template.build(
        _story(certificate, document, template.width - 2 * _PADDING), onFirstPage=each_page, onLaterPages=each_page
    )
    return file.getvalue()


def _attach(canvas: Any, document: bytes) -> None:
    described = PDFDictionary({"Type": PDFName("EmbeddedFile"), "Subtype": PDFName("application#2Fjson")})
    doc = canvas._doc
    stream = doc.Reference(PDFStream(described, document, filters=()))
    specification = PDFDictionary(
        {
            "Type": PDFName("Filespec"),
            "F": PDFString(NAME),
            "UF": PDFString(NAME),
            "Desc": PDFString("The signed certificate"),
            "EF": PDFDictionary({"F": stream}),
            "AFRelationship": PDFName("Source"),
        }
    )
    names = PDFDictionary({"Names": PDFArray([PDFString(NAME), doc.Reference(specification)])})
    doc.Catalog.Names = PDFDictionary({"EmbeddedFiles": names})
    doc.Catalog.PageMode = PDFName("UseAttachments")


# What stands on the pages


def _story(certificate: Certificate, document: bytes, width: float) -> list[Any]:
    text = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12.2)
    small = ParagraphStyle("small", parent=text, fontSize=8, leading=10.6, textColor=_GREY)
    label = ParagraphStyle("label", parent=text, textColor=_GREY)
    title = ParagraphStyle("title", parent=text, fontName="Helvetica-Bold", fontSize=20, leading=24, spaceAfter=2)
    lead = ParagraphStyle("lead", parent=text, fontSize=11, leading=15, spaceAfter=5)
    heading = ParagraphStyle(
        "heading", parent=text, fontName="Helvetica-Bold", fontSize=10.5, leading=13, spaceBefore=9, spaceAfter=3
    )

    def flowable(section: facts.Section) -> Any:
        cells = [[Paragraph(escape(facts.plain(left)), label), Paragraph(right, text)] for left, right in section.rows]
        share = section.label_share
        table = Table(cast(Any, cells), colWidths=[width * share, width * (1 - share)], hAlign="LEFT")
        table.setStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 4),
                ("TOPPADDING", (0, 0), (-1, -1), 1.6),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
                ("LINEBELOW", (0, 0), (-1, -2), 0.25, "#cccccc"),
            ]
        )
        return KeepTogether([Paragraph(section.heading, heading), table])

    story: list[Any] = [
        Paragraph("Certificate of erasure", title),
        Paragraph(escape(facts.plain(facts.sentence(certificate))), lead),
        HRFlowable(width="100%", thickness=0.8, color="#222222", spaceBefore=1, spaceAfter=2),
    ]
    story += map(flowable, facts.sections(certificate, signature_of(document)))
    story += [
        KeepTogether(
            [
                Paragraph("What a certificate cannot say", heading),
                Paragraph(facts.LIMITS, small),
                Spacer(1, 4),
                Paragraph(
                    f"The signed document is attached to this file as {NAME}. Whoever has the public key of the"
                    " installation verifies it, without any other data: cleanmail certificate verify FILE --key KEY.",
                    small,
                ),
            ]
        )
    ]
    return story
