"""Looks into attachments: what they are, and, in archives and attached messages, what is in them.

Of most files only the first octets are ever decoded or unpacked. Archives that need to be looked at as a whole (the
directory of a ZIP file stands at its end) are held in memory one within another, as far as the limits go. Calls nest
as deep as `ContentLimits.depth` allows, never as deep as a message wants.

Never raises: what stops the reading of something is said with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gateway.content_facts import other_archives, rar_file, tar_file, zip_file
from gateway.content_facts.attachment import Attachment, Detected, Incomplete, Trait, extension_of
from gateway.content_facts.budget import Budget, Stop
from gateway.content_facts.documents import SCAN, compound_file, html_traits, pdf_traits, rtf_traits
from gateway.content_facts.expected import is_mismatch
from gateway.content_facts.facts import ContentLimits
from gateway.content_facts.flow import Flow, Octets
from gateway.content_facts.forbidden import ARCHIVES, DISK_IMAGE, EXECUTABLE, FORBIDDEN, SCRIPT, SHORTCUT
from gateway.content_facts.magic import DISC_HEAD, HEAD, detect, detect_disc
from gateway.content_facts.member import Member
from gateway.content_facts.names import clean_name, joined, name_traits, part_names
from gateway.content_facts.packed import bunzipped, gunzipped, unxzed, unzstded
from gateway.content_facts.seven_zip import members as seven_zip_members
from gateway.content_facts.transfer import HIDING, decoded, decoded_size, uu_names, uudecoded
from storage.mime.decode import decode_unknown
from storage.mime.message import Kind, Part, read_message

_MESSAGE_EXTENSIONS = frozenset({"eml", "mht", "mhtml", "mim", "mime"})
_HTML_EXTENSIONS = frozenset({"html", "htm", "xhtml", "xht", "shtml", "htmlz"})
_PACKERS: dict[Detected, Callable[[Iterator[Octets], Budget], Iterator[Octets]]] = {
    Detected.GZIP: gunzipped,
    Detected.BZIP2: bunzipped,
    Detected.XZ: unxzed,
    Detected.LZMA: unxzed,
    Detected.ZSTD: unzstded,
}
_MEMBERS: dict[Detected, Callable[[Octets, Budget], Iterator[Member]]] = {
    Detected.RAR: rar_file.members,
    Detected.SEVEN_ZIP: seven_zip_members,
    Detected.CAB: other_archives.cab_members,
    Detected.ONENOTE: other_archives.onenote_members,
    Detected.TNEF: other_archives.tnef_members,
}
_NOT_READ = frozenset({Detected.ACE, Detected.ARJ, Detected.LHA, Detected.COMPRESS})
_CLOSED = frozenset({Detected.JAR, Detected.APK, Detected.APPX})  # programs: what is in them changes nothing
_PACKAGES = frozenset({Detected.OOXML, Detected.ODF, Detected.EPUB})  # of many parts that nobody sees as files
_ZIP_LIKE = frozenset({"zip", "zipx"})
_RUNS = frozenset().union(*(FORBIDDEN.extensions[name] for name in (EXECUTABLE, SHORTCUT, DISK_IMAGE)))
_SCRIPTS = FORBIDDEN.extensions[SCRIPT]
_FILES = ARCHIVES.union(*FORBIDDEN.detected.values())
_TEXTS = frozenset((b"plain", b"html", b"enriched", b"richtext", b"rfc822-headers", b"x-amp-html", b"watch-html"))
# What the unpacked file is called: the packed one's name without its ending.
_INNER = {"tgz": ".tar", "tbz": ".tar", "tbz2": ".tar", "txz": ".tar", "tzst": ".tar"}
# Why what is in an archive tells about the archive too.
_OUTWARD = frozenset(
    {Incomplete.TOO_DEEP, Incomplete.TOO_LARGE, Incomplete.TOO_MANY, Incomplete.TOO_MUCH_WORK, Incomplete.DAMAGED}
)
_NO_TRAITS: frozenset[Trait] = frozenset()


@dataclass(slots=True)
class _Found:
    """What becomes known of a file while it is looked into."""

    detected: Detected
    traits: frozenset[Trait]
    encrypted: bool = False
    incomplete: Incomplete | None = None


class Examiner:
    """Of one message. `found` are the attachments, each archive before what is in it."""

    def __init__(self, limits: ContentLimits, budget: Budget) -> None:
        self._limits = limits
        self._budget = budget
        self.found: list[Attachment] = []
        self.incomplete: Incomplete | None = None

    # Parts of messages

    def part(self, data: bytes, part: Part, prefix: str, depth: int = 0) -> str:
        """Looks into a leaf, or an attached message's envelope. Returns its path, for what is in it."""
        names = part_names(part)
        declared = f"{part.media_type.decode('ascii', 'replace')}/{part.subtype.decode('ascii', 'replace')}"
        if part.kind is Kind.MESSAGE:
            name = names[0] if names else "message.eml"
            if part.encoding not in (b"base64", b"quoted-printable"):  # RFC 2046 §5.2.1 forbids these
                return self._note(Attachment(joined(prefix, name), name, declared, Detected.MESSAGE, len(part.body)))
            names = names or [name]
        traits = _NO_TRAITS
        if len({extension_of(name) for name in names}) > 1:
            traits = frozenset({Trait.TWO_NAMES})
        for other in names[1:] if traits else ():
            self.examine(Member(other, traits=traits, incomplete=Incomplete.NAMES_ONLY), prefix, depth, declared)
        member = Member(
            names[0] if names else "", decoded_size(data, part), Flow(decoded(data, part, self._budget)), traits=traits
        )
        return self.examine(member, prefix, depth, declared)

    def leaf(self, data: bytes, part: Part, prefix: str, depth: int = 0) -> bool:
        """Looks into a part without parts. False if it is a text of the message, and no file beside it."""
        if not _is_text(part) or self._hides_a_file(data, part):
            self.part(data, part, prefix, depth)
            return True
        if part.subtype == b"plain" and data.find(b"begin ", part.body_start, part.end) >= 0:
            self._uuencoded(data, part, prefix, depth)
        return False

    def _hides_a_file(self, data: bytes, part: Part) -> bool:
        """A text without a name that is a program or an archive: some programs show it as an attachment."""
        if part.encoding not in HIDING:
            return False
        return detect(Flow(decoded(data, part, self._budget)).peek(HEAD)) in _FILES

    def _uuencoded(self, data: bytes, part: Part, prefix: str, depth: int) -> None:
        """Files that stand uuencoded in a text."""
        try:
            for name, start in uu_names(data, part.body_start, part.end, self._budget):
                flow = Flow(uudecoded(data, start, part.end, self._budget))
                if self.incomplete is None and flow.peek(1):
                    self.examine(Member(clean_name(decode_unknown(name)), None, flow), prefix, depth)
        except Stop as stop:
            self.incomplete = stop.reason

    def _note(self, attachment: Attachment) -> str:
        if self._budget.admits_attachment():
            self.found.append(attachment)
        else:
            self.incomplete = Incomplete.TOO_MANY
        return attachment.path

    # Files

    def examine(self, member: Member, prefix: str, depth: int, declared: str = "") -> str:
        """Adds `member`, and what is in it. Returns its path."""
        path = joined(prefix, member.name or "unnamed")
        if not self._budget.admits_attachment():
            self.incomplete = Incomplete.TOO_MANY
            return path
        place = len(self.found)
        traits = member.traits | name_traits(member.name)
        attachment = Attachment(
            path, member.name, declared, size=member.size, encrypted=member.encrypted, traits=traits
        )
        self.found.append(attachment)
        found = _Found(Detected.UNKNOWN, traits, member.encrypted, member.incomplete)
        if member.flow is not None:
            self._look(member.flow, attachment, found, depth)
            if found.incomplete is None and member.flow.stopped is not None:
                found.incomplete = member.flow.stopped
        extension = attachment.extension
        self.found[place] = replace(
            attachment,
            detected=found.detected,
            traits=found.traits,
            encrypted=found.encrypted,
            incomplete=found.incomplete,
            mismatch=is_mismatch(extension, declared, found.detected, found.traits),
        )
        return path

    def _look(self, flow: Flow, attachment: Attachment, found: _Found, depth: int) -> None:
        if self._budget.exhausted:
            found.incomplete = Incomplete.TOO_MUCH_WORK
            return
        extension = attachment.extension
        found.detected = _detected(flow, extension, attachment.declared)
        try:
            self._look_inside(flow, attachment, found, depth, extension)
        except Stop as stop:
            if stop.reason is Incomplete.ENCRYPTED:
                found.encrypted = True
            found.incomplete = stop.reason

    def _look_inside(self, flow: Flow, attachment: Attachment, found: _Found, depth: int, extension: str) -> None:
        """Raises Stop."""
        kind = found.detected
        if kind is Detected.PDF:
            found.traits |= pdf_traits(self._scanned(flow))
        elif kind in (Detected.HTML, Detected.SVG):
            found.traits |= html_traits(self._scanned(flow))
        elif kind is Detected.RTF:
            found.traits |= rtf_traits(self._scanned(flow))
        elif kind in _NOT_READ:
            raise Stop(Incomplete.NOT_READ)
        elif kind is Detected.OLE:
            with_whole = self._held(flow, attachment)
            try:
                facts = compound_file(with_whole)
            finally:
                self._budget.release(len(with_whole))
            found.detected, found.encrypted = facts.detected, facts.encrypted
            found.traits |= facts.traits
        elif kind is Detected.MESSAGE or kind is Detected.TAR or kind in _PACKERS or kind in _MEMBERS:
            self._enter(depth)
            self._open(flow, attachment, found, depth, kind)
        elif kind is Detected.ZIP:
            self._zip(flow, attachment, found, depth, extension)

    def _enter(self, depth: int) -> None:
        if depth >= self._limits.depth:
            raise Stop(Incomplete.TOO_DEEP)

    def _open(self, flow: Flow, attachment: Attachment, found: _Found, depth: int, kind: Detected) -> None:
        """Raises Stop."""
        if kind in _PACKERS:
            inner = Flow(_PACKERS[kind](flow.pieces(), self._budget))
            before = len(self.found)
            self.examine(Member(_inner_name(attachment.name, kind), None, inner), attachment.path, depth + 1)
            found.incomplete = self._outward(before)
        elif kind is Detected.TAR:
            self._all(tar_file.members(flow), attachment, found, depth)
        else:
            whole = self._held(flow, attachment)
            try:
                if kind is Detected.MESSAGE:
                    self._message(bytes(whole), attachment.path, depth + 1)
                else:
                    self._all(_MEMBERS[kind](whole, self._budget), attachment, found, depth)
            finally:
                self._budget.release(len(whole))

    def _zip(self, flow: Flow, attachment: Attachment, found: _Found, depth: int, extension: str) -> None:
        """Raises Stop."""
        whole = self._held(flow, attachment)
        try:
            archive = zip_file.read_zip(whole, self._limits.members, self._budget)
            kind = found.detected = zip_file.kind_of(archive, extension)
            found.traits |= zip_file.package_traits(kind, archive)
            found.encrypted = archive.encrypted
            if kind in _CLOSED:
                return
            members = zip_file.members(whole, archive, self._budget)
            if kind in _PACKAGES and extension not in _ZIP_LIKE:
                members = (member for member in members if _is_remarkable(member, kind))
                if depth >= self._limits.depth:
                    return
            self._enter(depth)
            self._all(members, attachment, found, depth)
            if archive.damaged:
                found.incomplete = Incomplete.DAMAGED
            if archive.too_many:
                found.incomplete = Incomplete.TOO_MANY
        finally:
            self._budget.release(len(whole))

    def _all(self, members: Iterator[Member], attachment: Attachment, found: _Found, depth: int) -> None:
        """Raises Stop."""
        before = len(self.found)
        for number, member in enumerate(members):
            if number >= self._limits.members:
                raise Stop(Incomplete.TOO_MANY)
            if member.encrypted:
                found.encrypted = True
            if member.incomplete in (Incomplete.NAMES_ONLY, Incomplete.NOT_READ) and found.incomplete is None:
                found.incomplete = Incomplete.NAMES_ONLY
            self.examine(member, attachment.path, depth + 1)
            if self.incomplete is Incomplete.TOO_MANY:
                raise Stop(Incomplete.TOO_MANY)
        found.incomplete = self._outward(before) or found.incomplete

    def _outward(self, before: int) -> Incomplete | None:
        """Why an archive was not wholly looked into, if what is in it was not."""
        for attachment in self.found[before:]:
            if attachment.incomplete in _OUTWARD:
                return attachment.incomplete
        return None

    def _message(self, data: bytes, prefix: str, depth: int) -> None:
        """The attachments of a message in a file."""
        self._budget.spend(len(data))
        todo: list[tuple[Part, str]] = [(read_message(data).root, prefix)]
        while todo:
            part, where = todo.pop()
            if self.incomplete is not None:
                return
            if part.kind is Kind.MULTIPART:
                todo.extend((child, where) for child in reversed(part.children))
            elif part.kind is Kind.MESSAGE:
                inner = self.part(data, part, where, depth)
                if part.embedded is not None:
                    todo.append((part.embedded, inner))
            else:
                self.leaf(data, part, where, depth)

    def _held(self, flow: Flow, attachment: Attachment) -> bytearray:
        """The whole content, in memory until it is released. Raises Stop."""
        if attachment.size is not None and attachment.size > self._limits.held:
            raise Stop(Incomplete.TOO_LARGE)
        whole = flow.collect(self._budget)
        if flow.stopped is Incomplete.TOO_MUCH_WORK:
            self._budget.release(len(whole))
            raise Stop(flow.stopped)
        return whole

    def _scanned(self, flow: Flow) -> bytes:
        """Raises Stop."""
        scanned = flow.peek(SCAN)
        self._budget.spend(len(scanned))
        return scanned


def _is_text(part: Part) -> bool:
    """Whether it is shown as a text of the message, not as a file beside it."""
    if part.media_type != b"text" or part.subtype not in _TEXTS or part.disposition == b"attachment":
        return False
    names = (*part.disposition_params, *part.params)
    return not any(name.startswith((b"filename", b"name")) and value for name, value in names)


def _detected(flow: Flow, extension: str, declared: str) -> Detected:
    head = flow.peek(HEAD)
    kind = detect(head)
    if kind is Detected.UNKNOWN and len(head) == HEAD:
        kind = detect_disc(flow.peek(DISC_HEAD)) or kind
    if kind in (Detected.TEXT, Detected.UNKNOWN, Detected.HTML, Detected.SVG):
        if extension in _MESSAGE_EXTENSIONS or declared.startswith(("message/rfc822", "message/global")):
            return Detected.MESSAGE
        if extension == "svg" or declared == "image/svg+xml":
            return Detected.SVG
        if extension in _HTML_EXTENSIONS or declared in ("text/html", "application/xhtml+xml"):
            return Detected.HTML
    if extension in _ZIP_LIKE and kind in (Detected.UNKNOWN, Detected.TEXT):
        return Detected.ZIP  # programs look for its directory, whatever stands before
    return kind


def _is_remarkable(member: Member, kind: Detected) -> bool:
    """Of the parts of a document: a file that a person could be led to open, or an embedded object."""
    extension = extension_of(member.name)
    if extension in _RUNS or (kind is not Detected.EPUB and extension in _SCRIPTS):
        return True
    return member.encrypted or member.name.lower().startswith("oleobject")


def _inner_name(name: str, kind: Detected) -> str:
    stem, _, extension = name.rpartition(".")
    if not stem:
        return ""
    return stem + _INNER.get(extension.lower(), "")
