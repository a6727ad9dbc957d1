"""Whether a file is what its name promises. Only promises of something harmless count, and only where they are broken
by something that is not: a picture that is of another format, or a table that is a web page, deceives nobody.
"""

from __future__ import annotations

from gateway.content_facts.attachment import Detected, Trait


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PICTURES = _words("jpg jpeg jpe png gif bmp tif tiff webp heic heif avif ico psd raw")
_MEDIA = _words("mp3 mp4 m4a m4v wav avi mov mkv mpg mpeg ogg flac wmv wma webm aac 3gp")
_TEXTS = _words("txt text log csv tsv ics vcf md json xml yaml yml ini conf asc diff patch tex srt")
_DOCUMENTS = _words(
    "doc docx dot dotx xls xlsx xlt xltx xlsb ppt pptx pps ppsx pot potx odt ods odp odg rtf vsd vsdx pub"
)
_ARCHIVES = _words("zip 7z rar gz tgz bz2 xz zst tar cab arj")

_RUNS = frozenset(
    {
        Detected.PE,
        Detected.DOS,
        Detected.ELF,
        Detected.MACH_O,
        Detected.JAVA_CLASS,
        Detected.DEX,
        Detected.MSI,
        Detected.LNK,
        Detected.CHM,
        Detected.ISO,
        Detected.VHD,
        Detected.DISK,
        Detected.WIM,
        Detected.DMG,
    }
)
_PACKAGES = frozenset({Detected.JAR, Detected.APK, Detected.APPX})
_PACKED = frozenset(
    {
        Detected.ZIP,
        Detected.SEVEN_ZIP,
        Detected.RAR,
        Detected.CAB,
        Detected.GZIP,
        Detected.BZIP2,
        Detected.XZ,
        Detected.ZSTD,
        Detected.TAR,
        Detected.ACE,
        Detected.ARJ,
    }
)
_OFFICE = frozenset({Detected.OLE, Detected.OOXML, Detected.ODF, Detected.RTF, Detected.ONENOTE})

_PROMISES: tuple[tuple[frozenset[str], frozenset[Detected]], ...] = (  # names, and what breaks their promise
    (_PICTURES, _RUNS | _PACKAGES | _PACKED | _OFFICE | {Detected.SCRIPT}),
    (_MEDIA, _RUNS | _PACKAGES | _PACKED | _OFFICE | {Detected.SCRIPT}),
    (_words("pdf"), _RUNS | _PACKAGES | _PACKED | _OFFICE | {Detected.SCRIPT}),
    (_TEXTS, _RUNS | _PACKAGES),
    (_DOCUMENTS, _RUNS | _PACKAGES | (_PACKED - {Detected.GZIP}) | {Detected.SCRIPT}),
    (_ARCHIVES, _RUNS),
)
_BROKEN_BY = {extension: kinds for extensions, kinds in _PROMISES for extension in extensions}
_BY_TYPE = {"image": "png", "audio": "mp3", "video": "mp4"}
_SCRIPTED = _PICTURES | _MEDIA | _words("pdf")


def is_mismatch(extension: str, declared: str, detected: Detected, traits: frozenset[Trait]) -> bool:
    """`declared` counts where the name says nothing."""
    if not extension:
        extension = "pdf" if declared == "application/pdf" else _BY_TYPE.get(declared.partition("/")[0], "")
    if Trait.HTML_SCRIPT in traits and detected is Detected.HTML and extension in _SCRIPTED:
        return True
    kinds = _BROKEN_BY.get(extension)
    return kinds is not None and detected in kinds
