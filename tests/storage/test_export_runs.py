"""Runs of an export: an interrupted one goes on, a complete one is brought up to date, others are refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account_ending import end_account
from export_place import ExportPlace, index_of, uids
from export_place import view as view_of

from storage.errors import AlreadyExists, CleanmailError, Conflict, InvalidInput, NotPermitted, StorageFull, Unavailable
from storage.export import mail
from storage.export.account import export_account
from storage.export.manifest import Manifest
from storage.export.place import Place, claim
from storage.export.restore import restore_archive
from storage.export.tenant import export_tenant
from storage.export.values import INDEX, INDEX_PART, MANIFEST, Form, Progress
from storage.export.verify import verify_archive
from storage.values import FLAGGED, AccountId


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportPlace]:
    place = ExportPlace(tmp_path_factory.mktemp("export") / "data")
    yield place
    place.close()


@pytest.fixture
def account_id(place: ExportPlace) -> AccountId:
    account_id = place.new_account()
    place.fill(account_id)
    return account_id


def export(place: ExportPlace, account_id: AccountId, to: Path, form: Form, **options: Any) -> Manifest:
    return export_account(place.installation, place.tenant_id, account_id, to, form, **options)


def same_as_new(place: ExportPlace, account_id: AccountId, archive: Path, form: Form) -> None:
    """The archive is what an export into an empty folder makes, and nothing else."""
    verified = verify_archive(archive)
    assert verified.strange == []
    fresh = archive.with_name(archive.name + " fresh")
    export(place, account_id, fresh, form)
    lines = [line for line in index_of(archive) if not line.get("gone") and line["kind"] != "lost"]
    assert [(line.get("folder"), line.get("sha256")) for line in lines] == [
        (line.get("folder"), line.get("sha256")) for line in index_of(fresh)
    ]
    assert files_of(archive) == files_of(fresh)


def files_of(archive: Path) -> dict[str, bytes]:
    documents = (INDEX, MANIFEST, "account.json")
    return {
        str(path.relative_to(archive)): path.read_bytes()
        for path in archive.rglob("*")
        if path.is_file() and path.name not in documents
    }


class StopError(Exception):
    """Breaks an export off."""


@pytest.mark.parametrize("form", Form)
def test_an_interrupted_export_goes_on_where_it_stopped(
    place: ExportPlace, account_id: AccountId, tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "_BATCH_LINES", 3)
    to = tmp_path / "to"

    def breaks_off(progress: Progress) -> None:
        if progress.done >= 12:
            raise StopError

    with pytest.raises(StopError):
        export(place, account_id, to, form, progress=breaks_off)
    with pytest.raises(InvalidInput, match="incomplete"):
        verify_archive(to)
    part = (to / INDEX_PART).read_bytes()
    assert part.count(b"\n") > 6
    (to / INDEX_PART).write_bytes(part[:-7])  # the last line is torn
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*cleanmail,S=*")}
    export(place, account_id, to, form)
    assert form is Form.MBOX or len(before) > 6
    same_as_new(place, account_id, to, form)


@pytest.mark.parametrize("form", Form)
def test_an_update_adds_what_came_and_notes_what_went(
    place: ExportPlace, account_id: AccountId, tmp_path: Path, form: Form
) -> None:
    to = tmp_path / "to"
    first = export(place, account_id, to, form)
    with pytest.raises(AlreadyExists, match="--update"):
        export(place, account_id, to, form)
    kept = files_of(to)
    with place.account(account_id) as account:
        inbox = account.mailboxes.find("INBOX").id
        account.messages.append(inbox, b"Subject: new\r\n\r\nnew\r\n", keywords=["fresh"])
        account.messages.store(inbox, uids(4, 5), "add", FLAGGED, ["again"])
        account.messages.expunge(inbox, uids(1, 2), only_deleted=False)
        account.mailboxes.rename("a.b", "was a.b")
        account.mailboxes.rename("a_b", "a.b")
        account.mailboxes.delete("A.B")
        account.mailboxes.create("Later")
    second = export(place, account_id, to, form, update=True)
    assert second.counts["gone"] == 2 and second.messages == first.messages - 1
    same_as_new(place, account_id, to, form)
    third = export(place, account_id, to, form, update=True)
    assert (third.counts, third.octets) == (second.counts, second.octets)
    same_as_new(place, account_id, to.rename(tmp_path / "again"), form)
    other = place.new_account()
    restore_archive(place.installation, place.tenant_id, other, tmp_path / "again")
    assert place.view(other) == place.view(account_id)
    assert form is Form.MBOX or len(set(kept) & set(files_of(tmp_path / "again"))) > 8


def test_files_that_somebody_removed_or_cut_are_written_again(
    place: ExportPlace, account_id: AccountId, tmp_path: Path
) -> None:
    to = tmp_path / "to"
    export(place, account_id, to, Form.MAILDIR)
    first, second, *_ = sorted((to / "Maildir" / "cur").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (to / "Maildir" / "cur" / "1.stray.cleanmail,S=1,W=1:2,").write_bytes(b"x")
    (to / "Maildir" / "cur" / "of somebody else").write_bytes(b"x")
    export(place, account_id, to, Form.MAILDIR, update=True)
    assert verify_archive(to).strange == ["Maildir: 1 files that are not part of the archive"]
    (to / "Maildir" / "cur" / "of somebody else").unlink()
    same_as_new(place, account_id, to, Form.MAILDIR)


@pytest.mark.parametrize("form", Form)
def test_what_changes_during_the_export_is_in_it(
    place: ExportPlace, account_id: AccountId, tmp_path: Path, form: Form
) -> None:
    changed: list[int] = []

    def change(progress: Progress) -> None:
        if not changed:
            changed.append(1)
            with place.account(account_id) as account:
                inbox, target = account.mailboxes.find("INBOX").id, account.mailboxes.find("empty").id
                account.messages.append(inbox, b"Subject: meanwhile\r\n\r\n")
                account.messages.move(inbox, uids(1, 1), target)

    export(place, account_id, tmp_path / "to", form, progress=change)
    same_as_new(place, account_id, tmp_path / "to", form)


def test_a_damaged_message_is_counted_and_the_others_are_exported(
    place: ExportPlace, account_id: AccountId, tmp_path: Path
) -> None:
    with place.account(account_id) as account:
        inbox = account.mailboxes.find("INBOX").id
        ((file,),) = account.messages.fetch_rows(inbox, 4, 4, ("file",))
        path = next((account.root / "Maildir").glob(f"*/{file}"))
        path.write_bytes(path.read_bytes()[:-1])
    manifest = export(place, account_id, tmp_path / "to", Form.MBOX)
    assert manifest.counts["unreadable"] == 4  # in each of its folders
    verify_archive(tmp_path / "to")


def refused(place: ExportPlace, account_id: AccountId, to: Path, error: type[CleanmailError], **options: Any) -> str:
    before = sorted(to.rglob("*")) if to.exists() else []
    with pytest.raises(error) as caught:
        export(place, account_id, to, options.pop("form", Form.MAILDIR), **options)
    assert (sorted(to.rglob("*")) if to.exists() else []) == before
    return caught.value.public


def test_targets_that_are_not_ones_own_are_refused_and_left_alone(
    place: ExportPlace, account_id: AccountId, tmp_path: Path
) -> None:
    other = place.new_account()
    export(place, other, tmp_path / "other", Form.MAILDIR)
    assert "another account" in refused(place, account_id, tmp_path / "other", Conflict, update=True)
    assert "another form" in refused(place, other, tmp_path / "other", Conflict, form=Form.MBOX, update=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    assert "neither empty" in refused(place, account_id, tmp_path / "full", Conflict)
    (tmp_path / "file").write_text("x")
    assert "not a folder" in refused(place, account_id, tmp_path / "file", InvalidInput)
    assert "target cannot be written" in refused(place, account_id, tmp_path / "file" / "below", Unavailable)
    assert "outside" in refused(place, account_id, place.data / "to", InvalidInput)
    (tmp_path / "link").symlink_to(place.data)
    assert "outside" in refused(place, account_id, tmp_path / "link" / "to", InvalidInput)
    (tmp_path / "mine").mkdir()
    with claim(tmp_path / "mine", place.data, {"source": "x"}):
        assert "Another export" in refused(place, account_id, tmp_path / "mine", Conflict)


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageFull), (errno.EROFS, NotPermitted), (errno.EINVAL, InvalidInput)]
)
@pytest.mark.parametrize("at", [1, 7, 30])
def test_a_target_that_fails_is_one_sentence_and_can_be_gone_on_with(
    place: ExportPlace,
    account_id: AccountId,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[CleanmailError],
    at: int,
) -> None:
    write: Callable[..., None] = Place.write
    left = [at]

    def fails(self: Place, *arguments: Any, **options: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(number, os.strerror(number))
        write(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Place, "write", fails)
        with pytest.raises(error) as caught:
            export(place, account_id, tmp_path / "to", Form.MAILDIR)
    assert "target" in caught.value.public.lower()
    export(place, account_id, tmp_path / "to", Form.MAILDIR)
    same_as_new(place, account_id, tmp_path / "to", Form.MAILDIR)


def test_a_tenant_goes_on_and_notes_accounts_that_went(tmp_path: Path) -> None:
    place = ExportPlace(tmp_path / "data")
    try:
        accounts = [place.new_account(name) for name in ("a", "b", "a/b", '"../d"')]
        for account_id in accounts[:2]:
            place.fill(account_id)

        def breaks_off(row: Any) -> None:
            if row.account_id == accounts[2]:
                raise StopError

        to = tmp_path / "to"
        installation, tenant_id = place.installation, place.tenant_id
        with pytest.raises(StopError):
            export_tenant(installation, tenant_id, to, before=breaks_off)
        seen: list[AccountId] = []
        manifest = export_tenant(installation, tenant_id, to, before=lambda row: seen.append(row.account_id))
        assert seen == accounts[2:] and manifest.counts["accounts"] == 4
        assert verify_archive(to).manifest.messages == manifest.messages
        assert sorted(path.name for path in (to / "accounts").iterdir()) == [
            "%22..%2Fd%22@one.test",
            "a%2Fb@one.test",
            "a@one.test",
            "b@one.test",
        ]
        end_account(installation, tenant_id, accounts[1])
        with pytest.raises(AlreadyExists):
            export_tenant(installation, tenant_id, to)
        manifest = export_tenant(installation, tenant_id, to, update=True)
        assert manifest.counts["accounts"] == 3 and not (to / "accounts" / "b@one.test").exists()
        assert verify_archive(to).strange == []
        with place.account(accounts[0]) as account:
            assert view_of(account)["INBOX"][3][0] > 0
    finally:
        place.close()


WAYS_OUT = ("Maildir/.link/secret", "Maildir/.link/cur/secret", "Maildir/.link/cur/1.V1U1.cleanmail,S=1,W=1:2,")


def with_a_way_out(to: Path) -> list[Path]:
    """A folder that a link in the archive leads to: what no run may touch."""
    other = to.parent / "other"
    (other / "cur").mkdir(parents=True)
    (to / "Maildir" / ".link").symlink_to(other)
    files = [other / "secret", other / "dovecot-keywords", other / "maildirfolder", other / "cur" / "secret"]
    files.append(other / "cur" / "1.V1U1.cleanmail,S=1,W=1:2,")
    for file in files:
        file.write_text("of somebody else")
    return files


@pytest.mark.parametrize("file", WAYS_OUT)
@pytest.mark.parametrize("index", ["moved", "gone", "interrupted"])
def test_an_index_that_somebody_changed_leads_no_run_out_of_the_target(
    place: ExportPlace, tmp_path: Path, index: str, file: str
) -> None:
    account_id = place.new_account()
    with place.account(account_id) as account:
        account.messages.append(account.mailboxes.find("INBOX").id, b"Subject: x\r\n\r\nx\r\n")
    to = tmp_path / "archive"
    export(place, account_id, to, Form.MAILDIR)
    files = with_a_way_out(to)
    lines = [json.loads(line) for line in (to / INDEX).read_bytes().splitlines()]
    message = next(line for line in lines if line["kind"] == "message")
    message["file"] = file
    if index == "gone":
        message["uid"] += 1
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (to / (INDEX_PART if index == "interrupted" else INDEX)).write_text(text)
    with pytest.raises(InvalidInput, match="no export writes"):
        export(place, account_id, to, Form.MAILDIR, update=True)
    assert all(each.read_text() == "of somebody else" for each in files)


def test_a_link_in_an_archive_is_left_and_not_followed(place: ExportPlace, tmp_path: Path) -> None:
    to = tmp_path / "archive"
    account_id = place.new_account()
    export(place, account_id, to, Form.MAILDIR)
    files = with_a_way_out(to)
    export(place, account_id, to, Form.MAILDIR, update=True)
    assert all(each.read_text() == "of somebody else" for each in files)
