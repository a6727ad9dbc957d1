"""Kinds of attachments that most installations refuse, as named groups that a policy refers to.

The names are kept for ever: rules of tenants, counts and scripts use them. The lists follow what Outlook and Gmail
block. A group is found by the name's ending or by what the octets are, whichever gives it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.content_facts.attachment import Attachment, Detected, Incomplete, Trait

EXECUTABLE = "executable"
SCRIPT = "script"
SHORTCUT = "shortcut"
DISK_IMAGE = "disk_image"
MACRO = "macro"
ENCRYPTED_ARCHIVE = "encrypted_archive"
UNREADABLE_ARCHIVE = "unreadable_archive"
MISMATCH = "mismatch"
HTML_SCRIPT = "html_script"

GROUPS: Mapping[str, str] = MappingProxyType(  # for people: "The message has ... attached."
    {
        EXECUTABLE: "a program",
        SCRIPT: "a script that a double-click runs",
        SHORTCUT: "a shortcut that starts a program or opens a page",
        DISK_IMAGE: "the image of a disk",
        MACRO: "a document with macros or embedded objects",
        ENCRYPTED_ARCHIVE: "an encrypted archive or document",
        UNREADABLE_ARCHIVE: "an archive that cannot be looked into",
        MISMATCH: "a file that is not what its name says",
        HTML_SCRIPT: "a web page that runs scripts",
    }
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EXTENSIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        EXECUTABLE: _words(
            "exe com scr pif cpl dll ocx sys drv msi msp mst msix msixbundle appx appxbundle msu app application"
            " appref-ms gadget jar jnlp apk aab xapk ipa deb rpm pkg mpkg run xll xbap ex ex_ vxd elf dex class air"
            " diagcab diagpkg appinstaller theme themepack grp"
        ),
        SCRIPT: _words(
            "bat cmd btm vb vbs vbe js jse mjs wsf wsh wsc ws sct shb shs hta ps1 ps1xml ps2 ps2xml psc1 psc2 psd1"
            " psdm1 psm1 cdxml msh msh1 msh2 mshxml msh1xml msh2xml reg inf ins isp its chm hlp scpt scptd applescript"
            " command csh ksh sh workflow nsh vsmacros fxp prg prf msc diagcfg xnk jsp osd pyz pyzw pyw pyo pyc"
        ),
        SHORTCUT: _words(
            "lnk url scf library-ms searchconnector-ms search-ms website desktop webloc inetloc fileloc"
            " settingcontent-ms mad maf mag mam maq mar mas mat mau mav maw rdp vpn"
        ),
        DISK_IMAGE: _words("iso img ima vhd vhdx avhdx vmdk vdi vfd udf dmg sparseimage wim esd swm nrg mdf cdr toast"),
        MACRO: _words(
            "docm dotm xlsm xltm xlam xlm xla pptm potm ppsm ppam ppa sldm odm wll slk iqy oqy rqy dqy mdb mde mda mdw"
            " mdt accdb accde accdr ade adp one onepkg pub wiz vsdm vstm vssm"
        ),
    }
)
_DETECTED: Mapping[str, frozenset[Detected]] = MappingProxyType(
    {
        EXECUTABLE: frozenset(
            {
                Detected.PE,
                Detected.DOS,
                Detected.ELF,
                Detected.MACH_O,
                Detected.JAVA_CLASS,
                Detected.MSI,
                Detected.JAR,
                Detected.APK,
                Detected.APPX,
                Detected.DEX,
            }
        ),
        # Not Detected.SCRIPT: #! alone starts nothing on a double-click, since attachments carry no mode; engineers
        # mail each other such files. Endings that start a shell are listed above.
        SCRIPT: frozenset({Detected.CHM}),
        SHORTCUT: frozenset({Detected.LNK}),
        DISK_IMAGE: frozenset({Detected.ISO, Detected.VHD, Detected.DISK, Detected.DMG, Detected.WIM}),
    }
)
_TRAITS: Mapping[str, frozenset[Trait]] = MappingProxyType(
    {
        SCRIPT: frozenset({Trait.PDF_LAUNCH}),
        MACRO: frozenset({Trait.MACROS, Trait.EMBEDDED_OBJECT}),
        MISMATCH: frozenset({Trait.REVERSED_NAME, Trait.TWO_NAMES}),
        HTML_SCRIPT: frozenset({Trait.HTML_SCRIPT}),
    }
)
ARCHIVES = frozenset(
    {
        Detected.ZIP,
        Detected.SEVEN_ZIP,
        Detected.RAR,
        Detected.CAB,
        Detected.GZIP,
        Detected.BZIP2,
        Detected.XZ,
        Detected.ZSTD,
        Detected.LZMA,
        Detected.TAR,
        Detected.ACE,
        Detected.ARJ,
        Detected.LHA,
        Detected.COMPRESS,
        Detected.ONENOTE,
        Detected.TNEF,
        Detected.OOXML,
        Detected.ODF,
        Detected.EPUB,
    }
)
ARCHIVE_EXTENSIONS = _words(
    "zip zipx 7z rar r00 001 cab gz tgz bz2 tbz tbz2 xz txz zst tzst lzma tar ace arj z lzh lha arc zoo uue"
)
# NAMES_ONLY is none of them: names show what most people would be warned of.
_UNREADABLE = frozenset(
    {
        Incomplete.NOT_READ,
        Incomplete.DAMAGED,
        Incomplete.TOO_DEEP,
        Incomplete.TOO_LARGE,
        Incomplete.TOO_MANY,
        Incomplete.TOO_MUCH_WORK,
        Incomplete.FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class ForbiddenTypes:
    """Which endings (lower case, without the dot), kinds of octets and traits make a group."""

    extensions: Mapping[str, frozenset[str]] = field(default_factory=lambda: _EXTENSIONS)
    detected: Mapping[str, frozenset[Detected]] = field(default_factory=lambda: _DETECTED)
    traits: Mapping[str, frozenset[Trait]] = field(default_factory=lambda: _TRAITS)

    def groups(self, attachment: Attachment) -> frozenset[str]:
        """The names of the groups that it belongs to."""
        extension = attachment.extension
        found = {name for name, extensions in self.extensions.items() if extension in extensions}
        found.update(name for name, kinds in self.detected.items() if attachment.detected in kinds)
        if attachment.traits:
            found.update(name for name, traits in self.traits.items() if not traits.isdisjoint(attachment.traits))
        if attachment.mismatch:
            found.add(MISMATCH)
        if attachment.encrypted:
            found.add(ENCRYPTED_ARCHIVE)
        if attachment.incomplete in _UNREADABLE and (
            attachment.detected in ARCHIVES or extension in ARCHIVE_EXTENSIONS
        ):
            found.add(UNREADABLE_ARCHIVE)
        return frozenset(found)

    def groups_of_all(self, attachments: Iterable[Attachment]) -> dict[str, str]:
        """Every group that any of them belongs to, with the path of the first one: asked once for a message."""
        found: dict[str, str] = {}
        for attachment in attachments:
            for name in self.groups(attachment):
                found.setdefault(name, attachment.path)
        return found


FORBIDDEN = ForbiddenTypes()


def groups(attachment: Attachment) -> frozenset[str]:
    """As the default lists say."""
    return FORBIDDEN.groups(attachment)
