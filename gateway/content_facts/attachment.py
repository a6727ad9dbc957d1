"""An attachment as a value: what it says it is, what it is, and what could not be found out.

Standards: RFC 2183 (file names), RFC 2231.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Detected(StrEnum):
    """What the octets are, whatever name and type say. UNKNOWN: nothing that is told apart here."""

    UNKNOWN = "unknown"
    EMPTY = "empty"
    TEXT = "text"
    # programs and what starts them
    PE = "windows-program"
    DOS = "dos-program"
    ELF = "elf-program"
    MACH_O = "macos-program"
    JAVA_CLASS = "java-class"
    MSI = "windows-installer"
    JAR = "java-archive"
    APK = "android-package"
    APPX = "windows-app-package"
    DEX = "android-program"
    SCRIPT = "script"  # begins with #!
    LNK = "windows-shortcut"
    CHM = "compiled-help"
    # documents
    OLE = "ole-document"  # an Office document of before 2007, or anything else in that container
    OUTLOOK_MESSAGE = "outlook-message"
    OOXML = "office-document"
    ODF = "open-document"
    RTF = "rtf"
    PDF = "pdf"
    HTML = "html"
    SVG = "svg"
    ONENOTE = "onenote"
    TNEF = "tnef"  # winmail.dat
    MESSAGE = "message"
    EPUB = "epub"
    # pictures, sound, films: none of them is looked into
    IMAGE = "image"
    MEDIA = "media"
    # archives
    ZIP = "zip"
    SEVEN_ZIP = "7z"
    RAR = "rar"
    CAB = "cab"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    LZMA = "lzma"
    TAR = "tar"
    ACE = "ace"
    ARJ = "arj"
    LHA = "lha"
    COMPRESS = "compress"  # .Z
    # images of disks
    ISO = "iso-image"
    VHD = "virtual-disk"
    DISK = "disk-image"  # a boot sector or partition table
    DMG = "macos-disk-image"
    WIM = "windows-image"


class Trait(StrEnum):
    """What is remarkable about an attachment."""

    MACROS = "macros"
    EMBEDDED_OBJECT = "embedded-object"  # an object of another program inside a document
    PDF_SCRIPT = "pdf-script"
    PDF_LAUNCH = "pdf-launch"  # starts a program
    HTML_SCRIPT = "html-script"
    REVERSED_NAME = "reversed-name"  # the name is written from right to left, to show another ending
    HIDDEN_NAME = "hidden-name"  # invisible or control characters in the name
    DOUBLE_EXTENSION = "double-extension"  # invoice.pdf.exe
    PADDED_NAME = "padded-name"  # many spaces before the ending, or dots and spaces after it
    TWO_NAMES = "two-names"  # programs see different names, depending on where they look
    HIDDEN_MEMBER = "hidden-member"  # in the archive, but not in its directory


class Incomplete(StrEnum):
    """Why something was not, or not wholly, looked into."""

    ENCRYPTED = "encrypted"
    NOT_READ = "not-read"  # a format, or a way of packing, that is not read here
    NAMES_ONLY = "names-only"  # the names in the archive are known, the contents are not
    DAMAGED = "damaged"  # or made so that programs read it differently
    TOO_DEEP = "too-deep"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"
    TOO_MUCH_WORK = "too-much-work"
    FAILED = "failed"  # a mistake of ours

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Incomplete.ENCRYPTED: "It is encrypted, so nobody but its recipient can look into it.",
    Incomplete.NOT_READ: "It is of a format that is not looked into.",
    Incomplete.NAMES_ONLY: "The names in it are known, but its contents were not looked into.",
    Incomplete.DAMAGED: "It is damaged, or made so that programs read it differently.",
    Incomplete.TOO_DEEP: "It has more archives inside archives than are looked into.",
    Incomplete.TOO_LARGE: "It is larger than what is looked into.",
    Incomplete.TOO_MANY: "It has more parts than are looked into.",
    Incomplete.TOO_MUCH_WORK: "It unpacks to more than is looked into.",
    Incomplete.FAILED: "It could not be looked into.",
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attached file, or one in an archive or an attached message. `path` ends with `name`."""

    path: str  # "invoice.zip/inner.zip/invoice.exe"
    name: str  # decoded, without a folder; may hold any character but NUL; "" if it has none
    declared: str = ""  # the media type that the message says, lower case; "" inside archives
    detected: Detected = Detected.UNKNOWN
    size: int | None = None  # octets when unpacked, None if that is not known; an archive's own word for its members
    encrypted: bool = False  # an archive with encrypted members, or a document with a password
    mismatch: bool = False  # the name or type promises something harmless, the content is something else
    traits: frozenset[Trait] = frozenset()
    incomplete: Incomplete | None = None  # of its own content, or of what is in it

    @property
    def extension(self) -> str:
        """What the system that opens it goes by: lower case, without the dot; "" without one."""
        return extension_of(self.name)


def extension_of(name: str) -> str:
    """The last ending of a file name, in lower case, as Windows sees it: dots and spaces after it do not count."""
    stem, dot, extension = name.rstrip(". \t\u3000\xa0").rpartition(".")
    # NTFS: "a.txt:b.exe" and "a.exe::$DATA" name streams of a file
    return extension.partition(":")[0].strip().lower() if dot and (stem or extension) else ""
