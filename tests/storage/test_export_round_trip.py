"""What goes out comes back: export, import into a new account, the same views, the same index."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from export_place import ExportPlace, index_of, view
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from storage.archives.maildir import MaildirArchive
from storage.archives.mbox import Mbox
from storage.errors import CleanmailError
from storage.export import form as forms
from storage.export import names
from storage.export.account import export_account
from storage.export.annotations import restore as restore_annotations
from storage.export.archive import ArchiveFolder
from storage.export.restore import restore_archive, would_be_restored
from storage.export.values import Form
from storage.export.verify import verify_archive
from storage.mail.account import Account
from storage.mail.annotations import SERVER, AnnotationLimits
from storage.mail.messages import NewMessage
from storage.schema.account import mailbox
from storage.values import MailboxId, UidSet


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportPlace]:
    place = ExportPlace(tmp_path_factory.mktemp("export") / "data")
    yield place
    place.close()


@pytest.mark.parametrize("form", Form)
def test_an_account_comes_back_as_it_was(place: ExportPlace, tmp_path: Path, form: Form) -> None:
    one, other = place.new_account(), place.new_account()
    place.fill(one)
    manifest = export_account(place.installation, place.tenant_id, one, tmp_path / "one", form)
    assert verify_archive(tmp_path / "one").strange == []
    wanted = place.view(one)
    place.clock.advance(1000)
    dry = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one", dry_run=True)
    assert place.view(other) == place.view(place.new_account())
    restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    assert (restored.imported, restored.present, restored.notes) == (manifest.messages, 0, [])
    assert (dry.imported, dry.placed, dry.folders) == (restored.imported, restored.placed, restored.folders)
    with ArchiveFolder(tmp_path / "one") as archive:
        assert would_be_restored(archive) == restored
    assert place.view(other) == wanted
    export_account(place.installation, place.tenant_id, other, tmp_path / "other", form)
    assert index_of(tmp_path / "other") == index_of(tmp_path / "one")
    again = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    assert (again.imported, again.present) == (0, manifest.messages)
    back = restore_archive(place.installation, place.tenant_id, one, tmp_path / "one")
    assert (back.imported, back.present) == (0, manifest.messages)
    assert place.view(one) == wanted and place.view(other) == wanted


def test_annotations_come_back(place: ExportPlace, tmp_path: Path) -> None:
    """Whatever octets they hold; what is there already is not replaced; notes on others' mailboxes are for reading."""
    one, other = place.new_account(), place.new_account()
    limits = AnnotationLimits(10, 10_000)
    with place.installation.account(place.tenant_id, one) as account:
        work = account.mailboxes.create("Work").id
        account.annotations.change(one, work, {"/shared/comment": "ü".encode(), "/private/x": b"\xff\0"}, limits)
        account.annotations.change(one, SERVER, {"/private/comment": b"mine"}, limits)
        account.annotations.change(other, work, {"/private/comment": b"beside another's"}, limits)
    export_account(place.installation, place.tenant_id, one, tmp_path / "one")
    with place.installation.account(place.tenant_id, other) as account:
        account.annotations.change(other, SERVER, {"/private/comment": b"there"}, limits)
    restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    assert restored.notes == []
    with place.installation.account(place.tenant_id, other) as account:
        names = {each.id: each.name for each in account.mailboxes.list()}
        assert [(owner, names.get(each), entry, value) for owner, each, entry, value in account.annotations.all()] == [
            (other, None, "/private/comment", b"there"),
            (other, "Work", "/private/x", b"\xff\0"),
            (other, "Work", "/shared/comment", "ü".encode()),
        ]
        assert restore_annotations(account, {}, [{"mailbox": "", "entry": "/x"}, 3, {"mailbox": "Work"}]) == 3
        assert restore_annotations(account, {}, [{"mailbox": "", "entry": "/private/y", "base64": "*"}]) == 1
        assert restore_annotations(account, {}, {"mailbox": ""}) == 0


def test_other_programs_read_the_maildir(place: ExportPlace, tmp_path: Path) -> None:
    """As far as another reader tells: folders, flags, keywords that have a letter, times; text with LF."""
    account_id = place.new_account()
    place.fill(account_id)
    export_account(place.installation, place.tenant_id, account_id, tmp_path / "to")
    archive = MaildirArchive(tmp_path / "to" / "Maildir")
    assert "Work/2024_Q1/Ünïcode ✉" in archive.folders() and "INBOX/Sub" in archive.folders()
    found = [each for each in archive.messages() if each.origin.startswith("cur/")]
    held = place.view(account_id)["INBOX"][4]
    read = [each for each in found if hasattr(each, "octets")]
    assert len(read) >= 8
    for each in read:
        same = [one for one in held if one.internal_date == each.received]
        assert any(forms.text_of(one.octets)[0].endswith(each.octets) and one.flags == each.flags for one in same)
        assert any(set(each.keywords) <= one.keywords for one in same)
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "to").rglob("*"))
    inodes = {path.stat().st_ino for path in (tmp_path / "to").rglob("*cleanmail,S=*")}
    assert len(inodes) == len({one.group for box in place.view(account_id).values() if len(box) == 5 for one in box[4]})


def test_other_programs_read_an_mbox(place: ExportPlace, tmp_path: Path) -> None:
    account_id = place.new_account()
    place.fill(account_id)
    export_account(place.installation, place.tenant_id, account_id, tmp_path / "to", "mbox")
    found = list(Mbox(tmp_path / "to" / "mbox" / "INBOX.mbox").messages())
    held = place.view(account_id)["INBOX"][4]
    assert len(found) == len(held)
    for each, one in zip(found, held, strict=True):
        assert hasattr(each, "octets") and each.received == one.internal_date
        assert each.octets.rstrip(b"\r\n").endswith(forms.text_of(one.octets)[0].rstrip(b"\r\n"))
        assert one.flags & ~each.flags == 0 and set(each.keywords) >= one.keywords


# Properties

level = st.text(st.sampled_from(list("aAß.~&-é✉中 _x0\\:")), min_size=1, max_size=6)
folder = st.lists(level, min_size=1, max_size=3).map("/".join)
line = st.sampled_from(
    [b"From me\r\n", b">From you\r\n", b">>From x", b"\r\n", b"\n", b"\r", b"\x00\xff", b"Subject: x\r\n", b"text\r\n"]
)
octets = st.one_of(
    st.lists(line, max_size=8).map(b"".join),
    st.binary(max_size=60),
    st.just(b"Subject: same\r\n\r\nsame\r\n"),
    st.integers(60_000, 140_000).map(lambda size: b"Subject: huge\r\n\r\n" + size * b"y"),
)
keyword = st.sampled_from(["$Forwarded", "$Junk", "Work", "work", "Zurück".encode("ascii", "ignore").decode(), "x.y"])
message = st.tuples(
    octets, st.integers(0, 31), st.lists(keyword, max_size=3), st.integers(-(10**6), 4 * 10**9), st.integers(0, 10**9)
)
mailboxes = st.dictionaries(folder, st.lists(message, max_size=4), max_size=4)
copies = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(0, 4)), max_size=4)


def make(account: Account, wanted: dict[str, list[Any]], copied: list[tuple[int, int, int]], keep: int) -> None:
    ids: list[MailboxId] = [account.mailboxes.find("INBOX").id]
    for name, messages in wanted.items():
        try:
            mailbox_id = account.mailboxes.create(name, ("\\Important",) if keep % 2 else ()).id
        except CleanmailError:  # a name that is there, or that cannot be
            continue
        ids.append(mailbox_id)
        account.mailboxes.keep(name, keep)
        new = [NewMessage(data, flags, words, date, saved=saved) for data, flags, words, date, saved in messages]
        if new:
            account.messages.append_many(mailbox_id, new)
    for source, uid, target in copied:
        uids = UidSet(((uid, uid),))
        account.messages.copy(ids[source % len(ids)], uids, ids[target % len(ids)])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(mailboxes, copies, st.integers(0, 400), st.sampled_from(list(Form)))
def test_whatever_an_account_holds_comes_back(
    place: ExportPlace,
    tmp_path: Path,
    wanted: dict[str, list[Any]],
    copied: list[tuple[int, int, int]],
    keep: int,
    form: Form,
) -> None:
    shutil.rmtree(tmp_path)
    one, other = place.new_account(), place.new_account()
    with place.account(one) as account:
        make(account, wanted, copied, keep)
        before = view(account)
    manifest = export_account(place.installation, place.tenant_id, one, tmp_path / "one", form)
    verify_archive(tmp_path / "one")
    restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    assert restored.imported == manifest.messages
    assert place.view(other) == before
    export_account(place.installation, place.tenant_id, other, tmp_path / "other", form)
    assert index_of(tmp_path / "other") == index_of(tmp_path / "one")


@given(st.one_of(octets, st.lists(line, max_size=20).map(b"".join)), st.integers(-(10**12), 10**12), st.integers(0, 31))
def test_both_forms_of_a_message_can_be_undone(data: bytes, date: int, flags: int) -> None:
    text, crlf = forms.text_of(data)
    assert forms.message_of(text, crlf) == data
    there = forms.in_mbox(text, date, flags, ["a", "b"])
    assert forms.out_of_mbox(*there) == text
    lines = there.octets.split(b"\n")
    assert lines[0].startswith(b"From ") and not any(each.startswith(b"From ") for each in lines[1:])


@given(st.lists(st.one_of(folder, st.text(max_size=300)), unique=True, max_size=12), st.sampled_from(list(Form)))
def test_folders_have_names_that_every_file_system_takes(wanted: list[str], form: Form) -> None:
    clean = [each.encode("utf-8", "replace").decode() or "x" for each in wanted]
    numbered = [(MailboxId(number), name) for number, name in enumerate(dict.fromkeys(clean), 1) if "\0" not in name]
    paths = names.folder_paths(form, numbered)
    assert len({path.casefold() for path in paths.values()}) == len(numbered)
    for path in paths.values():
        assert all(len(part.encode()) <= 255 for part in path.split("/"))
        assert form is Form.MBOX or path.isascii()


def test_a_folder_that_the_server_writes_stays_in_the_archive(place: ExportPlace, tmp_path: Path) -> None:
    one, other = place.new_account(), place.new_account()
    for account_id in (one, other):
        with place.account(account_id) as account:
            journal = account.mailboxes.create("Access journal")
            account.messages.append(journal.id, b"Subject: somebody looked\r\n\r\n")
            account.database.write(
                lambda transaction, journal=journal: transaction.execute(
                    update(mailbox).where(mailbox.c.mailbox_id == journal.id).values(read_only=1)
                )
            )
            account.mailboxes.delete("Archive")
    with place.account(other) as account:
        account.mailboxes.create("Archive", ("\\Archive",))
    export_account(place.installation, place.tenant_id, one, tmp_path / "one")
    restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    with ArchiveFolder(tmp_path / "one") as archive:
        would = would_be_restored(archive)
    assert (would.imported, would.octets, would.folders, would.notes) == (0, 0, 0, restored.notes)
    assert (restored.imported, restored.present) == (0, 0)
    assert restored.notes == ["Access journal is written by the server; it stays in the archive."]
    assert place.view(other) == place.view(one)  # it never had mail of its own: Archive is gone there too
