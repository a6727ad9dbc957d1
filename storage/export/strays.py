"""What an archive holds beside what its index names, after a run: files that a crash left, folders of before.

Only what an export itself writes is removed, only in the target, and nothing behind a link: whoever had the archive
since the last run may have changed anything in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from storage.export import names
from storage.export.index import FolderLine, Line, MessageLine, lines
from storage.export.place import Place
from storage.export.values import INDEX, Form

SUBFOLDERS = ("cur", "new", "tmp")  # of a Maildir
_OURS = ".cleanmail,"


@contextmanager
def index_of(place: Place) -> Iterator[Iterator[Line]]:
    """The lines of the index of an earlier run; none if there was none."""
    try:
        descriptor = os.open(place.path / INDEX, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield iter(())
        return
    with open(descriptor, "rb") as file:
        yield lines(file)


def remove_strays(place: Place, wanted: Form) -> None:
    """Files of ours that the index does not name: what a crash left, folders of before. Others' files stay."""
    with index_of(place) as found:
        if wanted is Form.MBOX:
            boxes = {line.path for line in found if isinstance(line, FolderLine) and not line.gone}
            for name in _listed(place, names.MBOX):
                if name.endswith(".mbox") and f"{names.MBOX}/{name}" not in boxes:
                    os.unlink(place.path / names.MBOX / name)
            return
        left = {name for name in _listed(place, names.MAILDIR) if name.startswith(".")}
        here, files = "", set[str]()
        for line in found:
            if isinstance(line, FolderLine):
                _clean(place, here, files)
                here, files = line.path, set()
                left.discard(here.rpartition("/")[2])
            elif isinstance(line, MessageLine):
                files.add(os.path.basename(line.file))
        _clean(place, here, files)
    for name in left:
        _remove_folder(place, f"{names.MAILDIR}/{name}")


def _clean(place: Place, path: str, files: set[str]) -> None:
    if not path:
        return
    folder = f"{path}/cur"
    for name in _listed(place, folder):
        if _OURS in name and name not in files:
            os.unlink(f"{place.path}/{folder}/{name}")


def _remove_folder(place: Place, path: str) -> None:
    """A Maildir of before; what others put there stays, and its folder with it; so does a link, wherever it leads."""
    if place.leads_away(path):
        return
    _clean(place, path, set())
    for name in ("dovecot-keywords", "maildirfolder"):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(f"{place.path}/{path}/{name}")
    for name in (*SUBFOLDERS, ""):
        with suppress(OSError):
            os.rmdir(f"{place.path}/{path}/{name}")


def _listed(place: Place, folder: str) -> list[str]:
    """What is in a folder of the target that is none of somebody else's."""
    path = f"{place.path}/{folder}"
    return os.listdir(path) if os.path.isdir(path) and not place.leads_away(folder) else []
