r"""Which folders of the other server move, and into which mailboxes: pure.

The user's own namespace moves, without its prefix; what others share with him stays. Folders that only show messages of
others (\All, \Flagged, \Important: labels and searches) stay too, unless they are named. Levels are those of the other
server's delimiter; what a name cannot have here becomes "_". The folders for sent, deleted … mail are found by their
attributes, else by the names that programs give them, and become the ones that are here. Two folders never become one,
and none becomes the access journal, which only the server writes.

Standards: RFC 6154 and RFC 8457 (attributes), RFC 2342 (namespaces), RFC 9051 §5.1 (names).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hosting.migration.answers import Listed, Namespaces
from storage.errors import InvalidInput
from storage.mail import journal
from storage.mail.names import INBOX, SEPARATOR, nearest_name, new_name

USES = {"\\sent": "Sent", "\\drafts": "Drafts", "\\junk": "Junk", "\\trash": "Trash", "\\archive": "Archive"}
_VIRTUAL = {"\\all", "\\flagged", "\\important"}
_CLOSED = {"\\noselect", "\\nonexistent"}
_KEPT = f"the name {journal.NAME} is kept for what this server writes; --map gives it another one"

# By which use a folder is known without attributes, in small letters; the first one that is there counts.
WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "\\sent": (
        "sent", "sent items", "sent messages", "sent mail", "gesendet", "gesendete elemente", "gesendete objekte",
        "gesendete nachrichten", "envoyés", "éléments envoyés", "messages envoyés", "objets envoyés", "posta inviata",
        "inviata", "elementi inviati", "enviados", "elementos enviados", "itens enviados", "verzonden",
        "verzonden items",
    ),
    "\\drafts": (
        "drafts", "draft", "entwürfe", "entwurf", "brouillons", "bozze", "borradores", "rascunhos", "concepten",
    ),
    "\\junk": (
        "junk", "spam", "junk e-mail", "junk email", "junk mail", "bulk mail", "spamverdacht", "junk-e-mail",
        "unerwünscht", "indésirables", "courrier indésirable", "pourriel", "posta indesiderata", "correo no deseado",
        "lixo eletrônico", "ongewenste e-mail",
    ),
    "\\trash": (
        "trash", "deleted items", "deleted messages", "deleted", "bin", "papierkorb", "gelöscht", "gelöschte elemente",
        "gelöschte objekte", "corbeille", "éléments supprimés", "cestino", "posta eliminata", "papelera",
        "elementos eliminados", "lixeira", "prullenbak", "verwijderde items",
    ),
    "\\archive": ("archive", "archives", "archiv", "archivio", "archivo", "archiveren"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for: names as the other server shows them, or with "/" between levels."""

    only: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """A folder there and its mailbox here; `left_out` says why it stays."""

    listed: Listed
    mailbox: str
    special_use: str = ""  # "\\Sent"
    left_out: str = ""
    is_virtual: bool = False


@dataclass(frozen=True, slots=True)
class _Named:
    listed: Listed
    levels: tuple[str, ...]
    is_foreign: bool = False

    @property
    def path(self) -> str:
        return SEPARATOR.join(self.levels)


def plan(
    listed: Sequence[Listed],
    namespaces: Namespaces | None,
    choice: Choice,
    used: Mapping[str, str] | None = None,
    taken: Collection[str] = (),
) -> list[Planned]:
    r"""In the order of their names, INBOX first.

    `used` are the mailboxes here by their special use ("\Sent"), `taken` those that no folder may become. Raises
    InvalidInput if a folder was asked for that is not there, or a mailbox cannot be called as it was asked for.
    """
    named = sorted(_named(listed, namespaces), key=lambda each: (each.path != INBOX, each.path))
    _check(choice, named)
    places = _uses(named, used or {})
    planned: list[Planned] = []
    here: set[str] = set(taken)
    # What was asked for and what has a use comes first to its name, so that the others make way.
    for each in sorted(named, key=lambda one: not (_asked(one, choice) or one.path in places or one.path == INBOX)):
        reason = _left_out(each, choice)
        target, use = _target(each, choice, places)
        if not reason and journal.is_kept(target):
            reason = _KEPT
        if not reason:
            target = _free(target, here)
            here.add(target)
        virtual = bool(_VIRTUAL & each.listed.attributes)
        planned.append(Planned(each.listed, target, use, reason, virtual))
    order = {each.listed.raw: position for position, each in enumerate(named)}
    return sorted(planned, key=lambda each: order[each.listed.raw])


def _named(listed: Sequence[Listed], namespaces: Namespaces | None) -> list[_Named]:
    spaces = namespaces or _guessed(listed)
    found = []
    for each in listed:
        name = each.name
        foreign = next((space for space in spaces.others if space and name.startswith(space)), "")
        is_foreign = bool(foreign) and not any(
            len(space) > len(foreign) and name.startswith(space) for space in spaces.personal
        )
        if not is_foreign:
            for prefix in sorted(spaces.personal, key=len, reverse=True):
                if prefix and name.startswith(prefix) and len(name) > len(prefix):
                    name = name[len(prefix) :]
                    break
        levels = tuple(level for level in (name.split(each.delimiter) if each.delimiter else [name]) if level)
        found.append(_Named(each, tuple(_level(level) for level in levels) or ("_",), is_foreign))
    return [_inbox(each) for each in found]


def _guessed(listed: Sequence[Listed]) -> Namespaces:
    """Of a server that does not tell: where everything lies below INBOX, that is the prefix."""
    others = [each for each in listed if each.name.upper() != INBOX]
    if others and all(each.delimiter and each.name.upper().startswith(INBOX + each.delimiter) for each in others):
        return Namespaces((others[0].name[: len(INBOX) + 1],))
    return Namespaces()


def _level(level: str) -> str:
    """A level as it may be called here: one level, and none that a file system would take for a way."""
    level = level.replace(SEPARATOR, "_")
    return "_" * len(level) if set(level) == {"."} else level


def _inbox(named: _Named) -> _Named:
    if named.levels[0].upper() != INBOX or named.is_foreign:
        return named
    return replace(named, levels=(INBOX, *named.levels[1:]))


def _names(each: _Named) -> set[str]:
    return {each.listed.name, each.path, nearest_name(each.path)}


def _asked(each: _Named, choice: Choice) -> bool:
    return not _names(each).isdisjoint(choice.only | frozenset(choice.places))


def _check(choice: Choice, named: Sequence[_Named]) -> None:
    there = set().union(*map(_names, named)) if named else set()
    for name in (*choice.only, *choice.without, *choice.places):
        if name not in there:
            raise InvalidInput(f"The other server shows no folder {name[:80]!r}.")
    if any(journal.is_kept(place) for place in choice.places.values()):
        raise InvalidInput(f"Only the server writes into {journal.NAME}.")


def _uses(named: Sequence[_Named], used: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By path: the mailbox and the use of those that have one; each use goes to one of them."""
    found: dict[str, tuple[str, str]] = {}
    for use, usual in USES.items():
        own = [each for each in named if not each.is_foreign and not _CLOSED & each.listed.attributes]
        with_attribute = [each for each in own if use in each.listed.attributes]
        words = WELL_KNOWN[use]
        by_name = sorted(
            (each for each in own if len(each.levels) == 1 and each.path.casefold() in words),
            key=lambda each: words.index(each.path.casefold()),
        )
        chosen = next((each for each in (*with_attribute, *by_name) if each.path not in found), None)
        if chosen is not None and chosen.path != INBOX:
            capital = "\\" + use[1:].capitalize()
            found[chosen.path] = (used.get(capital, usual), capital)
    return found


def _left_out(each: _Named, choice: Choice) -> str:
    names = _names(each)
    if _CLOSED & each.listed.attributes:
        return "it holds no messages"
    if not names.isdisjoint(choice.without):
        return "it was excluded"
    if choice.only and names.isdisjoint(choice.only):
        return "it was not asked for"
    if choice.only:
        return ""
    if each.is_foreign:
        return "it belongs to somebody else, or to all"
    if _VIRTUAL & each.listed.attributes:
        return "it shows messages of other folders"
    return ""


def _target(each: _Named, choice: Choice, places: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """The mailbox, and its special use."""
    for name in sorted(_names(each)):
        if name in choice.places:
            return new_name(choice.places[name]), places.get(each.path, ("", ""))[1]
    if each.path in places:
        return places[each.path]
    if "\\all" in each.listed.attributes:
        return "Archive", ""
    for cut in range(len(each.levels) - 1, 0, -1):  # below a folder that goes elsewhere
        above = SEPARATOR.join(each.levels[:cut])
        rest = SEPARATOR.join(each.levels[cut:])
        if above in choice.places:
            return nearest_name(f"{choice.places[above]}{SEPARATOR}{rest}"), ""
        if above in places:
            return nearest_name(f"{places[above][0]}{SEPARATOR}{rest}"), ""
    return nearest_name(each.path), ""


def _free(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    number = 2
    beginning = name.encode()[:900].decode("utf-8", "ignore")
    while (other := nearest_name(f"{beginning} ({number})")) in taken:
        number += 1
    return other
