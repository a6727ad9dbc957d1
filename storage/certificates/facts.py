"""What the pages of a certificate say, in words that a customer understands and an auditor accepts. Pure.

Texts are markup of reportlab's paragraphs: whatever comes from the certificate is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from storage.certificates.certificate import Certificate, KeysDestroyed

_SHOWN = 6  # domains, keys and others in one row; the rest stands in the attachment

_STEPS = {
    "ordered": "The erasure was ordered; a legal hold would have stopped it",
    "fenced": "Nobody could sign in any more; mail was taken no longer; sessions were ended",
    "alone": "No process used the data any more",
    "keys_destroyed": "The keys were destroyed: from here on the data cannot be read",
    "moved": "The encrypted files were taken out of use",
    "rows_removed": "Entries in the directory and the queue were removed",
    "files_removed": "The encrypted files were removed",
    "searched": "Everything that is left was searched for remains",
    "certified": "This certificate was made",
}
_ORDERED_BY = {
    "contract": "the contract reached its end",
    "operator": "the operator, on notice",
    "user": "the account's owner",
    "person": "a person's right to erasure",
}
_BASES = {
    "contract": "needed for the contract",
    "law": "required by law",
    "interest": "legitimate interest",
    "consent": "consent",
}
_PURGE = (
    "<b>Purge</b> of the media that hold the data, by cryptographic erase (NIST SP 800-88). The data was stored"
    " encrypted from its first byte on; what opens its keys was never on these media, and was destroyed where it lived."
    " Recovering the data from them is infeasible, with the means of a laboratory too."
)
_CLEAR = (
    "<b>Clear</b>, by cryptographic erase (NIST SP 800-88). The data was stored encrypted from its first byte on, and"
    " the only keys that open it were overwritten and removed: neither this system nor ordinary tools can read the data"
    " again."
)
_SAME_MEDIUM = (
    " The master key lived on the same medium, or on one that may be the same; whether a trace of the old one is left"
    " in spare blocks of it cannot be proven by software, so the higher level Purge is not claimed."
)
_NOT_REPLACED = (
    " The old master key was not destroyed by this program, so the higher level Purge is not claimed: see below."
)
LIMITS = (
    "It states what the server did and found. It cannot speak of copies that were made elsewhere before: messages at"
    " their correspondents, on the customer's own devices, in exports that the customer took along, or in backups of"
    " the machine that were not made by this program. A backup of encrypted data without the destroyed keys cannot be"
    " read."
)


@dataclass(frozen=True, slots=True)
class Section:
    heading: str
    rows: tuple[tuple[str, str], ...]  # a label and a text
    label_share: float = 0.27  # of the width


def sections(certificate: Certificate, signature: Mapping[str, str]) -> Iterator[Section]:
    steps = ((_time(each.at), escape(_step(each.step))) for each in certificate.steps)
    yield Section("What this is about", tuple(_about(certificate)))
    yield Section("What was erased", tuple(_counts(certificate)))
    yield Section("How it was made unreadable", tuple(_keys(certificate.keys)))
    yield Section("Steps", tuple(steps))
    yield Section("Search for remains", tuple(_search(certificate)))
    yield Section("What remains, and until when", tuple(_remaining(certificate)), label_share=0.6)
    if certificate.holds:
        yield Section("Legal holds that were in force before", tuple(_holds(certificate)))
    yield Section("Signature", tuple(_signature(certificate, signature)))


def sentence(certificate: Certificate) -> str:
    scope = certificate.scope
    what = "All data of" if scope.account_id is None else f"All data of account number {scope.account_id} of"
    but = ", but for what is named below as remaining" if certificate.remaining else ""
    return (
        f"{what} the customer '{scope.name}' was erased{but}. It cannot be read since {_time(certificate.unreadable)}."
    )


def subject(certificate: Certificate) -> str:
    return plain(f"Erasure of data of the customer {certificate.scope.name}")


def _about(certificate: Certificate) -> Iterator[tuple[str, str]]:
    scope = certificate.scope
    if certificate.issuer:
        yield "Issued by", escape(plain(certificate.issuer))
    yield "Certificate", f"<font face='Courier'>{escape(plain(certificate.certificate_id))}</font>"
    number = f"{escape(plain(scope.name))} (number {scope.tenant_id})"
    yield "Customer", number if scope.account_id is None else f"{number}, account number {scope.account_id}"
    yield "Mail domains", _some(scope.domains) or "none"
    yield "Reason", _ORDERED_BY.get(certificate.ordered_by, escape(plain(certificate.ordered_by)))
    yield "Ordered", _time(certificate.begun)
    yield "Unreadable since", f"<b>{_time(certificate.unreadable)}</b>, {_span(certificate)} after the order"
    yield "Finished", _time(certificate.finished)


def _counts(certificate: Certificate) -> Iterator[tuple[str, str]]:
    counts = certificate.counts
    yield "Accounts", _number(counts.accounts)
    yield "Messages", _number(counts.messages)
    files = f"{_number(counts.files)}, {_number(counts.bytes)} bytes"
    if counts.entries is None:  # most of them have no file of their own, and nobody can read the databases now
        files += ", with calendars, notes and contacts in them"
    else:
        of = "in calendars, address books and folders of files; notes are among the messages too"
        yield "Entries", f"{_number(counts.entries)} {of}"
    yield "Files", files
    if counts.withheld:
        yield "Withheld messages", _number(counts.withheld)
    yield "Messages under way", f"{_number(counts.queue_entries)} withdrawn, without a report to their senders"
    yield "Entries elsewhere", f"{_number(counts.rows)} in the directory and other databases that go on"


def _keys(keys: KeysDestroyed) -> Iterator[tuple[str, str]]:
    yield "Level reached", _level(keys)
    numbers = _some(keys.key_ids, "Courier")
    yield (
        "Keys destroyed",
        f"{_number(len(keys.key_ids))}, at {_time(keys.at)}: {numbers}" if numbers else _time(keys.at),
    )
    yield "Master key", _master(keys)
    if keys.mirrors:
        yield "Mirrors of keys", f"removed from {_some(keys.mirrors)}"
    yield (
        "Copies of keys",
        "no copy of the destroyed keys existed"
        if keys.backups_until is None
        else f"none can exist after <b>{_time(keys.backups_until)}</b>, when the last dated copy expires",
    )


def _level(keys: KeysDestroyed) -> str:
    match keys.sanitization:
        case "purge":
            return _PURGE
        case "clear":
            return _CLEAR + (_SAME_MEDIUM if keys.old_master_destroyed else _NOT_REPLACED)
        case other:
            return escape(plain(other))


def _master(keys: KeysDestroyed) -> str:
    place = escape(plain(keys.master_place))
    if keys.old_master_destroyed and keys.master_after is not None:
        return (
            f"lives in {place}; generation {keys.master_before} was destroyed and replaced by generation"
            f" {keys.master_after}, under which only the keys of others were kept"
        )
    if keys.master_after is not None:
        return (
            f"lives in {place}; generation {keys.master_before} was replaced by generation {keys.master_after}. This"
            " program cannot prove that the old generation was destroyed everywhere: that is for the operator to see to"
        )
    return (
        f"lives in {place}; generation {keys.master_before} was not replaced. The wrapped keys are gone; who had copied"
        " them before and holds this master key could still use them"
    )


def _search(certificate: Certificate) -> Iterator[tuple[str, str]]:
    search = certificate.search
    found = "<b>nothing was found</b>" if not search.found else f"<b>{_number(search.found)} places were found</b>"
    yield "Result", found
    yield "Searched", _some(search.searched)
    yield "Extent", f"{_number(search.files)} files, {_number(search.bytes)} bytes, for {_number(search.terms)} terms"
    if search.unsearched:
        yield (
            "Not searched for",
            f"{_number(search.unsearched)} terms that say nothing where they stand: very short ones, ordinary words,"
            " names that others have too",
        )
    if search.thorough:
        yield "Beside that", "other customers' folders too"
    if certificate.processes_recycled or certificate.processes_killed:
        replaced = f"{_number(certificate.processes_recycled)} that had held keys were replaced"
        ended = certificate.processes_killed
        yield "Processes", f"{replaced}; {_number(ended)} of them had to be ended by force" if ended else replaced
    if certificate.processes_until is not None:
        yield (
            "Processes that go on",
            "those that had held the key have dropped it and serve other accounts; each of them is replaced until"
            f" <b>{_time(certificate.processes_until)}</b>, since until then traces of it may be left in its memory",
        )


def _remaining(certificate: Certificate) -> Iterator[tuple[str, str]]:
    for each in certificate.remaining:
        until = f"until {_day(each.until)}" if each.until is not None else "holds nothing of a person any more"
        yield each.title, f"{until} ({_BASES.get(each.basis, escape(plain(each.basis)))})"
    if not certificate.remaining:
        yield "Nothing", "of the customer's data remains"


def _holds(certificate: Certificate) -> Iterator[tuple[str, str]]:
    for each in certificate.holds:
        yield each.hold_id, f"in force from {_day(each.begun)} to {_day(each.ended)}"


def _signature(certificate: Certificate, signature: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "Installation", f"<font face='Courier'>{escape(plain(certificate.installation_id))}</font>"
    yield "Key", f"<font face='Courier'>{escape(plain(signature['key_id']))}</font> (Ed25519)"
    value = escape(plain(signature["value"][:128]))
    yield "Signature", f"<font face='Courier' size='7.5'>{value[:64]} {value[64:]}</font>"
    yield "Made by", escape(plain(certificate.program))


def foot(certificate: Certificate) -> str:
    return plain(f"Certificate of erasure {certificate.certificate_id}, {_day(certificate.finished)}")


def _step(step: str) -> str:
    return _STEPS.get(step, plain(step).replace("_", " "))


def _some(values: Sequence[str], face: str = "Helvetica") -> str:
    shown = ", ".join(escape(plain(each[:120])) for each in values[:_SHOWN])
    more = len(values) - _SHOWN
    size = " size='7.5'" if face == "Courier" else ""
    text = f"<font face='{face}'{size}>{shown}</font>" if shown else ""
    return f"{text} and {_number(more)} more, named in the attached document" if more > 0 else text


def _span(certificate: Certificate) -> str:
    seconds = max(certificate.unreadable - certificate.begun, 0)
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= 2 * size or size == 1:
            count = seconds // size
            return f"{_number(count)} {unit}{'' if count == 1 else 's'}"
    return ""


def _time(seconds: int) -> str:
    return _moment(seconds, "%Y-%m-%d %H:%M:%S UTC")


def _day(seconds: int) -> str:
    return _moment(seconds, "%Y-%m-%d")


def _moment(seconds: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds since 1970"


def _number(number: int) -> str:
    return f"{number:,}"


def plain(text: str) -> str:
    """What the standard fonts of PDF have glyphs for."""
    return "".join(each if each.isprintable() else "?" for each in text).encode("cp1252", "replace").decode("cp1252")
