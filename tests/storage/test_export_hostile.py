"""An archive may come from anybody: what a stranger changed in it is refused, and nothing outside of it is touched.

Strangers sign what they made with a key of their own; only who knows the right one finds that out. So everything here
is tried behind a valid signature too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from export_place import ExportPlace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.certificates.certificate import canonical
from storage.errors import CleanmailError, InvalidInput
from storage.export.account import export_account
from storage.export.index import parsed
from storage.export.manifest import read
from storage.export.restore import restore_archive
from storage.export.values import INDEX, LINE_MAX, MANIFEST, Form
from storage.export.verify import verify_archive

STRANGER = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportPlace]:
    place = ExportPlace(tmp_path_factory.mktemp("export") / "data")
    account_id = place.new_account()
    place.fill(account_id)
    for form in Form:
        export_account(place.installation, place.tenant_id, account_id, place.data.parent / form.value, form)
    place.new_account("target")
    yield place
    place.close()


@pytest.fixture(params=list(Form))
def archive(request: pytest.FixtureRequest, place: ExportPlace, tmp_path: Path) -> Path:
    shutil.copytree(place.data.parent / request.param.value, tmp_path / "archive", symlinks=True)
    (tmp_path / "secret").write_bytes(b"Subject: secret\n\nof somebody else\n")
    return tmp_path / "archive"


def sign_again(archive: Path, **changes: Any) -> None:
    """As a stranger does who changed something."""
    values = json.loads((archive / MANIFEST).read_bytes())["manifest"] | changes
    for name in values["files"]:
        octets = (archive / name).read_bytes() if (archive / name).is_file() else b""
        values["files"][name] = {"size": len(octets), "sha256": hashlib.sha256(octets).hexdigest()}
    signature = {
        "public_key": STRANGER.public_key().public_bytes_raw().hex(),
        "value": STRANGER.sign(canonical(values)).hex(),
    }
    (archive / MANIFEST).write_bytes(canonical({"manifest": values, "signature": signature}))


def edit(archive: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the index, and sign."""
    lines = [json.loads(line) for line in (archive / INDEX).read_bytes().splitlines()]
    change(lines)
    (archive / INDEX).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    sign_again(archive)


def message(lines: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    return [line for line in lines if line["kind"] == "message"][number]


def folder(lines: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    return [line for line in lines if line["kind"] == "folder"][number]


def is_refused(place: ExportPlace, archive: Path) -> str:
    """Both ways; nothing comes into the account."""
    with pytest.raises(InvalidInput) as caught:
        verify_archive(archive)
    tenant = place.installation.tenant(place.tenant_id)
    (target,) = (each.account_id for each in tenant.accounts() if each.login.local == "target")
    before = place.view(target)
    with pytest.raises(InvalidInput):
        restore_archive(place.installation, place.tenant_id, target, archive)
    assert place.view(target) == before
    assert caught.value.public.count(".") >= 1 and "\n" not in caught.value.public
    return caught.value.public


def test_what_is_not_signed_anew_is_found_out(place: ExportPlace, archive: Path) -> None:
    for path in sorted(archive.rglob("*")):
        if not path.is_file() or path.stat().st_size == 0:
            continue
        octets = path.read_bytes()
        for changed in (octets[:-1] + bytes([octets[-1] ^ 1]), octets[: len(octets) // 2], octets + b"x"):
            path.write_bytes(changed)
            with pytest.raises(InvalidInput):
                verify_archive(archive)
            if len(octets) > 5000:
                break
        path.unlink()
        with pytest.raises(InvalidInput):
            verify_archive(archive)
        path.write_bytes(octets)
    verify_archive(archive)


def test_another_key_is_found_out_by_who_knows_the_right_one(place: ExportPlace, archive: Path) -> None:
    sign_again(archive)
    verify_archive(archive)
    with pytest.raises(InvalidInput, match="another installation"):
        verify_archive(archive, place.installation.keys.verifying_key("manifest"))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "Maildir/../../secret", "Maildir/cur/../../../secret", "."]
)
def test_names_lead_nowhere_else(place: ExportPlace, archive: Path, name: str) -> None:
    edit(archive, lambda lines: message(lines).update(file=name))
    assert is_refused(place, archive)
    edit(archive, lambda lines: [folder(lines).update(path=name), message(lines).update(file=f"{name}/cur/x")])
    assert is_refused(place, archive)


def test_links_and_pipes_are_not_followed(place: ExportPlace, archive: Path, tmp_path: Path) -> None:
    file = next(path for path in sorted(archive.rglob("*")) if "INBOX.mbox" in path.name or "cleanmail,S" in path.name)
    kept = file.read_bytes()
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    assert "link" in is_refused(place, archive)
    file.unlink()
    (tmp_path / "same").write_bytes(kept)
    file.symlink_to(tmp_path / "same")
    assert "link" in is_refused(place, archive)
    file.unlink()
    os.mkfifo(file)
    assert "no file" in is_refused(place, archive)
    file.unlink()
    file.write_bytes(kept)
    above = file.parent
    above.rename(tmp_path / "moved")
    above.symlink_to(tmp_path / "moved")
    assert "link" in is_refused(place, archive)
    above.unlink()
    (tmp_path / "moved").rename(above)
    for name in (INDEX, "account.json", "export.json", MANIFEST):
        (archive / name).rename(tmp_path / name)
        (archive / name).symlink_to(tmp_path / name)
        assert is_refused(place, archive)
        (archive / name).unlink()
        (tmp_path / name).rename(archive / name)
    verify_archive(archive)


WRONG: list[Callable[[list[dict[str, Any]]], Any]] = [
    lambda lines: lines.append({"kind": "message"}),
    lambda lines: lines.insert(0, message(lines)),
    lambda lines: lines.append(lines[-1]),
    lambda lines: lines.append({"kind": "demand"}),
    lambda lines: lines.append([1]),
    lambda lines: message(lines).update(uid=0),
    lambda lines: message(lines).update(uid=1 << 40),
    lambda lines: message(lines).update(uid="1"),
    lambda lines: message(lines).update(size=message(lines)["size"] + 1),
    lambda lines: message(lines).update(octets=1 << 60),
    lambda lines: message(lines).update(octets=-1),
    lambda lines: message(lines).update(offset=7),
    lambda lines: message(lines).update(crlf=False),
    lambda lines: message(lines).update(sha256="0" * 64),
    lambda lines: message(lines).update(flags=["\\Recent"]),
    lambda lines: message(lines).update(flags=5),
    lambda lines: message(lines).update(keywords=["a b"]),
    lambda lines: message(lines).update(keywords=["a)\r\n* BYE"]),
    lambda lines: message(lines).update(keywords=[["a"]]),
    lambda lines: message(lines).update(keywords=[f"k{n}" for n in range(60)]),
    lambda lines: message(lines).update(internal_date=10**30),
    lambda lines: message(lines).update(internal_zone=1440),
    lambda lines: message(lines).update(internal_zone="+0200"),
    lambda lines: message(lines).update(email_id="\ud800"),
    lambda lines: message(lines).update(file="\ud800"),
    lambda lines: message(lines).update(file="a\0b"),
    lambda lines: folder(lines).update(folder=""),
    lambda lines: folder(lines).update(folder="a//b"),
    lambda lines: folder(lines).update(folder="in\nbox"),
    lambda lines: folder(lines).update(folder="inbox"),
    lambda lines: folder(lines, 1).update(folder="INBOX"),
    lambda lines: folder(lines, 1).update(path=folder(lines)["path"]),
    lambda lines: folder(lines, 1).update(mailbox=1),
    lambda lines: folder(lines).update(special_use=["\\Sent \\Junk"]),
    lambda lines: folder(lines).update(special_use="\\Sent"),
    lambda lines: folder(lines).update(keep_days="1"),
    lambda lines: folder(lines).update(uidvalidity=1.5),
    lambda lines: folder(lines).update(gone=5),
    lambda lines: lines.remove(message(lines)),
    lambda lines: lines.extend({**folder(lines), "mailbox": n, "folder": f"f{n}"} for n in range(1000, 1010)),
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_an_index_that_cannot_be_is_refused(
    place: ExportPlace, archive: Path, change: Callable[[list[dict[str, Any]]], Any]
) -> None:
    edit(archive, change)
    assert is_refused(place, archive)


def test_bombs_are_refused_before_they_go_off(place: ExportPlace, archive: Path) -> None:
    index = (archive / INDEX).read_bytes()
    for octets in (
        b"[" * LINE_MAX,
        b'{"kind":' + b"[" * 100_000 + b"\n",
        b"x" * (LINE_MAX + 10),
        index[:-1],
        b"\xff\n",
    ):
        (archive / INDEX).write_bytes(octets)
        sign_again(archive)
        assert is_refused(place, archive)
    (archive / INDEX).write_bytes(index)
    sign_again(archive, counts={"messages": 1}, octets=1)
    assert is_refused(place, archive)
    for octets in (b"", b"[" * 200_000, b"{}", b'{"manifest": 1, "signature": {}}', b"\xff", b"x" * (17 << 20)):
        (archive / MANIFEST).write_bytes(octets)
        assert is_refused(place, archive)
    (archive / MANIFEST).unlink()
    assert "incomplete" in is_refused(place, archive)


def test_a_manifest_in_which_readers_see_different_things_is_refused(place: ExportPlace, archive: Path) -> None:
    """Its signature is right for who takes the last of two names, as this program did."""
    octets = (archive / MANIFEST).read_bytes()
    for before, after in ((b'"made":', b'"name":"mallory","made":'), (b'"manifest":{', b'"manifest":1,"manifest":{')):
        (archive / MANIFEST).write_bytes(octets.replace(before, after, 1))
        assert "cannot be read" in is_refused(place, archive)


def test_files_behind_the_messages_of_an_mbox_are_found(place: ExportPlace, archive: Path) -> None:
    boxes = sorted(archive.rglob("*.mbox"))
    for box in boxes[:2]:
        with box.open("ab") as file:
            file.write(b"From x\n\nbehind\n\n")
    assert not boxes or is_refused(place, archive)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_that_is_read_raises_anything_else(data: st.DataObject) -> None:
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
        max_leaves=5,
    )
    names = st.sampled_from(["kind", "mailbox", "folder", "path", "uid", "file", "flags", "keywords", "octets", "size"])
    line = data.draw(st.dictionaries(names, values, max_size=10))
    line["kind"] = data.draw(st.sampled_from(["folder", "message", "lost", "x"]))
    for octets in (json.dumps(line).encode(), data.draw(st.binary(max_size=40))):
        for reads in (parsed, read):
            with pytest.raises(CleanmailError):
                reads(octets)
