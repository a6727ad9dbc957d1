"""What is remarkable about the text that a message shows. Pure; looks at the first `TEXT_MAX` octets of a text.

HTML is not parsed: every expression looks at bounded pieces, so a page that means harm costs no more than another.
"""

from __future__ import annotations

import re

from gateway.content_facts.documents import has_script
from gateway.content_facts.findings import Finding
from gateway.content_facts.header_checks import organisation
from storage.mime.message import Part
from storage.mime.text import part_text

TEXT_MAX = 128 * 1024  # octets of each text
LINKS_MAX = 500
FEW = 80  # characters that are hardly any text

_UNSEEN = re.compile(r"<(script|style|title)\b(?:[^<]++|<(?!/\1))*+|<!--(?:[^-]++|-(?!->))*+(?:-->)?")
_TAG = re.compile(r"<[^<>]*+>?")
_ENTITY = re.compile(r"&(?:nbsp|zwnj|zwj|shy|#\d{1,6}|#x[0-9a-f]{1,5});?")
_BLANK = re.compile(r"[\s\u00ad\u034f\u200b-\u200f\u2060\u2800\ufeff]+")
_VISIBLE = re.compile(r"[^\s\u00ad\u034f\u200b-\u200f\u2060\u2800\ufeff]")
_IMAGE = re.compile(r"<img\b[^<>]{0,2000}?\ssrc\s{0,20}=\s{0,20}[\"']?\s{0,20}(?:https?:)?//")
_FORM = re.compile(r"<form[\s>]")
_ANCHOR = re.compile(
    r"<a\s[^<>]{0,200}?\bhref\s{0,20}+=\s{0,20}+[\"']?([^\"'\s<>]{1,2000}+)[^<>]{0,2000}+>([^<]{1,300}+)"
)
_URL = re.compile(r"https?:/{1,10}(?:[^/\s\"'<>?#\\@]{1,300}(@))?([^/\s\"'<>?#\\@:]{1,255}|\[[0-9a-f:.]{2,50}\])")
_SHOWN_HOST = re.compile(r"\s*(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})(?:[/?#:]\S*)?\s*\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){0,3}\Z|\[")
# What a file's name and a host's may both end in: "report.pdf" as the text of a link shows no host.
_FILE_ENDINGS = frozenset({"pdf", "doc", "docx", "xls", "xlsx", "zip", "html", "htm", "jpg", "png", "txt", "php"})


def check_texts(data: bytes, plain: Part | None, html: Part | None, *, attachments: bool) -> set[Finding]:
    """Of the first plain text and the first HTML of a message."""
    found: set[Finding] = set()
    plain_text = part_text(data, plain, TEXT_MAX).lower() if plain is not None else ""
    page = part_text(data, html, TEXT_MAX).lower() if html is not None else ""
    has_plain = _VISIBLE.search(plain_text) is not None
    if page:
        _check_page(page, found)
    has_page = _VISIBLE.search(page) is not None
    if not has_plain and not has_page and not attachments:
        found.add(Finding.EMPTY_BODY)
    if has_page and not has_plain:
        found.add(Finding.HTML_ONLY if plain is None else Finding.TEXT_DIFFERS_FROM_HTML)
    if has_plain:
        found.discard(Finding.HTML_ONLY_IMAGES)
    _check_links(plain_text, found)
    return found


def _check_page(page: str, found: set[Finding]) -> None:
    if has_script(page.encode("utf-8", "replace")):
        found.add(Finding.HTML_SCRIPT)
    if _FORM.search(page):
        found.add(Finding.HTML_FORM)
    if _IMAGE.search(page) and len(_visible(page)) < FEW:
        found.add(Finding.HTML_ONLY_IMAGES)
    for number, match in enumerate(_ANCHOR.finditer(page)):
        if number >= LINKS_MAX:
            break
        if _deceives(match[1], match[2]):
            found.add(Finding.LINK_SHOWS_OTHER_HOST)
            break
    _check_links(page, found)


def _check_links(text: str, found: set[Finding]) -> None:
    for number, match in enumerate(_URL.finditer(text)):
        if number >= LINKS_MAX:
            break
        if match[1]:
            found.add(Finding.LINK_WITH_CREDENTIALS)
        if _NUMBER.match(match[2]):
            found.add(Finding.LINK_TO_ADDRESS)


def _visible(page: str) -> str:
    return _BLANK.sub(" ", _ENTITY.sub(" ", _TAG.sub(" ", _UNSEEN.sub(" ", page)))).strip()


def _deceives(target: str, text: str) -> bool:
    """Whether the text of a link is the name of a host, and the link leads to another organisation's."""
    if "." not in text:
        return False
    shown = _SHOWN_HOST.match(text)
    host = _URL.match(target)
    if shown is None or host is None or shown[1].rpartition(".")[2] in _FILE_ENDINGS:
        return False
    return organisation(shown[1]) != organisation(host[2].rstrip("."))
