"""What comes back from a backup: mail as it was, beside what is there; a whole installation without what was erased."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_town import ALICE, BOB, MALLORY, ONE, TWO, BackupTown, contents
from erasure_certificates import Signer, certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.backup import whole
from storage.backup.manifest import DATA
from storage.backup.place import Stored
from storage.backup.restoring import apply, folder_of, lost, restore_account, restore_tenant
from storage.backup.saved import SavedTenant
from storage.backup.whole import STAGING, restore_installation
from storage.certificates.certificate import Scope
from storage.certificates.signing import issue
from storage.certificates.store import Certificates
from storage.check import check_account, check_installation
from storage.directory.provisioning import Provisioning
from storage.directory.rows import State
from storage.errors import AlreadyExists, Conflict, Gone, InvalidInput, NotFound
from storage.installation import Installation
from storage.mail.outcomes import NewMessage
from storage.mail.quota import Limits
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, new_queue_id
from storage.values import DELETED, SEEN, AccountId, Domain, EmailAddress, TenantId, UidSet


@pytest.fixture
def town(tmp_path: Path) -> Iterator[BackupTown]:
    town = BackupTown(tmp_path)
    try:
        yield town
    finally:
        town.close()


def saved(town: BackupTown, stored: Stored, tenant_id: TenantId = ONE) -> SavedTenant:
    return SavedTenant(stored, tenant_id, town.installation.keys, town.clock, town.data)


_messages = st.lists(
    st.tuples(
        st.binary(max_size=300),
        st.integers(0, 0xFF),
        st.lists(st.sampled_from(["work", "$Forwarded", "later", "Ünlikely"]), max_size=3, unique=True),
        st.integers(-(2**33), 2**33),
        st.sampled_from([b"", b"Return-Path: <a@b.test>\r\nReceived: from x by y; Mon, 4 May 2026 08:00:00 +0000\r\n"]),
    ),
    max_size=12,
)


@given(folders=st.dictionaries(st.sampled_from(["INBOX", "Sent", "Trash/Deep/Er", "R%C3%A9", "a.b c"]), _messages))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_restored_is_what_was(town: BackupTown, folders: dict[str, list[tuple]]) -> None:
    """restore(backup(x)) = x: octets, flags, keywords and dates of every mailbox."""
    with town.installation.account(ONE, BOB) as account:
        for mailbox in account.mailboxes.list():
            account.messages.expunge(mailbox.id, None, only_deleted=False)
        for name, messages in folders.items():
            try:
                target = account.mailboxes.find(name.replace("%", "_"))
            except NotFound:
                target = account.mailboxes.create(name.replace("%", "_"))
            account.messages.append_many(
                target.id,
                [NewMessage(data, flags, tuple(words), date, prefix) for data, flags, words, date, prefix in messages],
            )
        before = {name: rows for name, rows in contents(account).items() if not name.startswith("Restored")}
    stored = town.backup().stored
    with saved(town, stored) as source, town.installation.account(ONE, BOB) as account:
        restored = restore_account(source.account(BOB), account)
        again = restore_account(source.account(BOB), account)
        after = contents(account, f"{folder_of(stored)}/")
    mine = {name: rows for name, rows in after.items() if not name.startswith("Restored")}
    assert mine == before
    assert again.messages == 0 and again.present == restored.messages + restored.present
    assert not restored.unreadable and restored.stopped is None


def test_a_folder_of_then_comes_beside_what_is_there(town: BackupTown) -> None:
    then = town.with_account((ONE, ALICE), contents)
    stored = town.backup().stored
    with town.installation.account(ONE, ALICE) as account:
        inbox = account.mailboxes.find("INBOX").id
        account.messages.expunge(inbox, UidSet.of([1, 2]), only_deleted=False)
        town.installation.background.settle()
        now = contents(account)
        with saved(town, stored) as source:
            restored = restore_account(source.account(ALICE), account, folder="INBOX")
            assert (restored.mailboxes, restored.messages) == (1, 3)
            with pytest.raises(NotFound, match="no folder 'Nowhere'"):
                restore_account(source.account(ALICE), account, folder="Nowhere")
        after = contents(account)
        assert after.pop(f"{folder_of(stored)}/INBOX") == then["INBOX"]
        assert {name: rows for name, rows in after.items() if not name.startswith("Restored")} == now
        assert f"{folder_of(stored)}/INBOX" in account.mailboxes.subscriptions()
        assert list(check_account(account, town.installation.incarnation, contents=True)) == []


def test_copies_of_databases_go_even_if_their_process_was_killed(town: BackupTown) -> None:
    stored = town.backup().stored
    dead, other = town.data / "run/restore-999999999-x", town.data / f"run/restore-{os.getppid()}-x"
    for folder in (dead, other):
        folder.mkdir()
    with saved(town, stored) as source:
        source.account(ALICE)
        mine = [name for name in os.listdir(town.data / "run") if name.startswith(f"restore-{os.getpid()}-")]
        assert len(mine) == 1 and os.listdir(town.data / "run" / mine[0])
    left = [name for name in os.listdir(town.data / "run") if name.startswith("restore-")]
    assert left == [other.name]


def test_the_quota_stops_a_restore_and_more_of_it_goes_on(town: BackupTown) -> None:
    stored = town.backup().stored
    with town.installation.account(ONE, ALICE) as account, saved(town, stored) as source:
        account.limits = Limits(bytes=account.usage().bytes * 2 - 10)
        stopped = restore_account(source.account(ALICE), account)
        assert stopped.messages == 2 and stopped.stopped == "The mailbox is full."
        account.limits = Limits()
        rest = restore_account(source.account(ALICE), account)
        assert (rest.messages, rest.present, rest.stopped) == (1, 2, None)


def test_a_message_that_is_damaged_in_the_backup_is_told_and_the_others_come(town: BackupTown) -> None:
    stored = town.backup().stored
    folder = stored.path("tenants/1/accounts/1/Maildir/cur")
    first, second, _ = sorted(folder.iterdir())
    octets = first.read_bytes()
    first.unlink()
    first.write_bytes(octets[:-1] + bytes([octets[-1] ^ 1]))
    second.unlink()
    with town.installation.account(ONE, ALICE) as account, saved(town, stored) as source:
        restored = restore_account(source.account(ALICE), account)
    assert restored.messages == 1 and sorted(restored.unreadable) == [first.name, second.name]


def test_a_damaged_database_of_a_backup_is_refused(town: BackupTown) -> None:
    stored = town.backup().stored
    path = stored.path("tenants/1/accounts/1/account.db")
    octets = bytearray(path.read_bytes())
    octets[5000] ^= 1
    path.write_bytes(octets)
    with saved(town, stored) as source:
        with pytest.raises(InvalidInput, match="changed or is damaged"):
            source.account(ALICE)
        path.unlink()
        with pytest.raises(InvalidInput, match="is missing from the backup"):
            source.account(ALICE)


def test_nothing_of_a_deleted_account_can_be_restored(town: BackupTown) -> None:
    stored = town.backup().stored
    town.installation.keys.destroy_account_key(ONE, BOB)
    with saved(town, stored) as source, pytest.raises(Gone, match="can never be read again"):
        source.account(BOB)
    with saved(town, stored) as source, pytest.raises(NotFound, match="holds nothing of this account"):
        source.account(AccountId(99))
    with pytest.raises(NotFound, match="holds nothing of this tenant"):
        saved(town, stored, TenantId(9)).__enter__()


def test_a_tenant_gets_its_mail_aliases_and_settings_of_then(town: BackupTown) -> None:
    provisioning = Provisioning(town.installation)
    info, all_ = EmailAddress.parse("info@one.test"), Domain.parse("one.test")
    provisioning.add_alias(ONE, info, [EmailAddress.parse("alice@one.test"), EmailAddress.parse("out@else.test")])
    provisioning.set_catch_all(ONE, all_, [EmailAddress.parse("bob@one.test")])
    town.installation.tenant(ONE).set_setting("colour", "blue")
    stored = town.backup().stored
    provisioning.remove_alias(ONE, info)
    provisioning.remove_catch_all(ONE, all_)
    town.installation.tenant(ONE).set_setting("colour", None)
    town.installation.keys.destroy_account_key(ONE, BOB)
    with saved(town, stored) as source:
        gone = lost(town.installation, source)
        assert [alias.address for alias in gone.aliases] == ["@one.test", "info@one.test"]
        assert gone.settings == (("colour", "blue"),)
        alice, bob = restore_tenant(town.installation, source)
        assert apply(provisioning, town.installation.tenant(ONE), gone) == []
        assert not lost(town.installation, source)
    assert alice.restored is not None and alice.restored.messages == 3
    assert bob.restored is None or "never be read again" in bob.reason


# A whole installation


def moved_keys(town: BackupTown, data: Path) -> None:
    """As `keys restore` brings them to a new machine."""
    data.mkdir()
    shutil.copytree(town.data / "keys", data / "keys")


def test_an_installation_comes_back_whole_and_clients_notice(town: BackupTown, tmp_path: Path) -> None:
    with town.installation.account(ONE, ALICE) as account:
        account.messages.store(account.mailboxes.find("INBOX").id, UidSet.of([2]), "add", SEEN | DELETED)
        before, validity = contents(account), {each.name: each.uidvalidity for each in account.mailboxes.list()}
        highest = max(each.id for each in account.mailboxes.list())
    stored = town.backup().stored
    with town.installation.account(ONE, ALICE) as account:  # after the backup: lost, but its numbers were seen
        later = account.mailboxes.create("Later")
    lost_account = Provisioning(town.installation).create_account(TWO, EmailAddress.parse("new@two.test")).account_id
    target = tmp_path / "new"
    moved_keys(town, target)
    town.clock.advance(3600)
    found = restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert (found.tenants, found.accounts, found.erased_tenants, found.without_key) == (2, 3, 0, [])
    assert not (target / STAGING).exists()
    restored = town.open(target)
    try:
        assert list(check_installation(restored, contents=True)) == []
        with restored.account(ONE, ALICE) as account:
            assert contents(account) == before
            fresh = [each.uidvalidity for each in account.mailboxes.list()]
            assert len(set(fresh)) == len(fresh) and min(fresh) > max(*validity.values(), later.uidvalidity)
            assert account.mailboxes.create("Other").id > max(highest, later.id)
        assert restored.control.login_hashes() == {
            account_id: restored.control.login_hash(address)
            for address, account_id in (("alice@one.test", 1), ("bob@one.test", 2), ("mallory@two.test", 3))
        }
        assert restored.control.next_account_id() > lost_account
        assert [record.action for record in restored.audit.read()][-1] == "backup.restore"
    finally:
        restored.close()


def enqueue(town: BackupTown) -> str:
    queue_id = new_queue_id(town.clock)
    alice, far = EmailAddress.parse("alice@one.test"), NewRecipient(EmailAddress.parse("far@else.test"))
    content = b"Subject: queued\r\n\r\nText\r\n"
    expires = town.clock.now() + 100_000
    entry = NewEntry(queue_id, ONE, ALICE, Origin.SUBMISSION, alice, EnvelopeParameters(), (far,), expires, content)
    town.installation.queue.enqueue([entry])
    return queue_id


def restored_to(town: BackupTown, stored: Stored, target: Path, *, queue: bool = False) -> Installation:
    if not target.exists():
        moved_keys(town, target)
    restore_installation(town.place, stored, target, town.keys(target), town.clock, queue=queue)
    return town.open(target)


@pytest.mark.parametrize("wanted", [True, False])
def test_queued_mail_comes_back_only_if_it_is_wanted(town: BackupTown, tmp_path: Path, wanted: bool) -> None:
    queue_id, other = enqueue(town), enqueue(town)
    stored = town.backup().stored
    town.installation.queue.withdraw(queue_id)
    restored = restored_to(town, stored, tmp_path / "new", queue=wanted)
    try:
        entries = {summary.queue_id for summary in restored.queue.entries()}
        assert entries == ({queue_id, other} if wanted else set())
        if wanted:
            assert restored.queue.content(restored.queue.show(queue_id)).startswith(b"Subject: queued")
        spool = tmp_path / "new/tenants/1/spool"
        assert len(list(spool.glob("*"))) == (2 if wanted else 0)
    finally:
        restored.close()


def test_what_was_erased_since_does_not_come_back(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    town.installation.keys.destroy_tenant_key(ONE)
    restored = restored_to(town, stored, tmp_path / "new")
    try:
        assert restored.control.tenant_state(ONE)[0] is State.ENDED
        assert [str(row.domain) for row in restored.control.domains()] == ["two.test"]
        assert list(restored.control.login_hashes()) == [MALLORY]
        assert sorted(os.listdir(tmp_path / "new/tenants")) == ["2"]
        assert not restored.control.has_slug("one")
        assert list(check_installation(restored, contents=True)) == []
    finally:
        restored.close()


@pytest.mark.parametrize("ledger", ["in the target", "in a newer backup"])
def test_certificates_say_what_was_erased_since(town: BackupTown, tmp_path: Path, ledger: str) -> None:
    """Even where the keys that are brought back are older than the erasure."""
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    now = town.clock.now() + 30
    made = [
        certificate(certificate_id="aa", scope=Scope(int(TWO), None, "two", ("two.test",)), begun=now, finished=now),
        certificate(certificate_id="bb", scope=Scope(int(ONE), int(BOB), "one", ()), begun=now, finished=now),
    ]
    data = target if ledger == "in the target" else town.data
    for each in made:
        Certificates(data).keep(issue(each, town.installation.keys))
    if data == town.data:
        town.backup()
    restored = restored_to(town, stored, target)
    try:
        assert restored.control.tenant_state(TWO)[0] is State.ENDED
        assert list(restored.control.login_hashes()) == [ALICE]
        assert [row.account_id for row in restored.tenant(ONE).accounts()] == [ALICE]
        assert sorted(os.listdir(target / "tenants")) == ["1"]
        assert sorted(os.listdir(target / "tenants/1/accounts")) == ["1"]
    finally:
        restored.close()


def ended_elsewhere(town: BackupTown, *owners: tuple[TenantId, AccountId | None]) -> list[bytes]:
    """Certificates of erasures of which the data directory knows nothing."""
    now = town.clock.now() + 30
    return [
        issue(
            certificate(
                certificate_id=f"{number:016x}",
                scope=Scope(int(tenant_id), None if account_id is None else int(account_id), "one", ()),
                begun=now,
                finished=now,
            ),
            town.installation.keys,
        )
        for number, (tenant_id, account_id) in enumerate(owners, start=0xA0)
    ]


def test_keys_from_before_an_erasure_are_destroyed_again_and_its_ending_is_known(
    town: BackupTown, tmp_path: Path
) -> None:
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    for document in ended_elsewhere(town, (TWO, None), (ONE, BOB)):
        Certificates(target).keep(document)
    found = restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert (found.keys_destroyed, found.erased_tenants, found.erased_accounts, found.without_key) == (2, 1, 1, [])
    keys = town.keys(target)
    for read in (lambda: keys.tenant_key(TWO, "test"), lambda: keys.account_key(ONE, BOB, "test")):
        with pytest.raises(Gone):
            read()
    restored = town.open(target)
    try:
        rows = [(row.tenant_id, row.account_id, row.finished is not None) for row in restored.control.endings.all()]
        assert rows == [(TWO, None, True), (ONE, BOB, True)]
        assert restored.control.has_slug("ended-2") and not restored.control.has_slug("two")
        with restored.account(ONE, ALICE) as account:
            assert len(contents(account)["INBOX"]) == 3
        assert list(check_installation(restored, contents=True)) == []
    finally:
        restored.close()


def test_numbers_that_a_certificate_names_are_not_given_out_again(town: BackupTown, tmp_path: Path) -> None:
    """Else the next restore would take a new customer for one that ended."""
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    [document] = ended_elsewhere(town, (TenantId(70_000), None))
    Certificates(target).keep(document)
    restored = restored_to(town, stored, target)
    try:
        assert restored.control.next_tenant_id() > 70_000
    finally:
        restored.close()


def test_certificates_come_along_so_that_the_next_restore_knows_them_too(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    [document] = ended_elsewhere(town, (TWO, None))
    Certificates(town.data).keep(document)
    town.backup()
    restored_to(town, stored, tmp_path / "new").close()
    store = Certificates(tmp_path / "new")
    assert [each.scope.tenant_id for each in store.all()] == [TWO] and store.pdf("00000000000000a0")[:4] == b"%PDF"


@pytest.mark.parametrize("how", ["of another", "changed", "renamed", "unsigned"])
@pytest.mark.parametrize("where", ["in the target", "in a newer backup"])
def test_a_certificate_that_is_not_ours_destroys_nothing(
    town: BackupTown, tmp_path: Path, how: str, where: str
) -> None:
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    [document] = ended_elsewhere(town, (TWO, None))
    if how == "of another":
        document = issue(
            certificate(certificate_id="00000000000000a0", scope=Scope(int(TWO), None, "two", ())), Signer()
        )
    elif how == "changed":
        document = document.replace(b'"tenant_id":2', b'"tenant_id":1')
    elif how == "unsigned":
        document = document.replace(b'"value":"', b'"valu":"')
    data = target if where == "in the target" else town.backup().stored.root / DATA
    (data / "certificates").mkdir(exist_ok=True)
    name = "00000000000000ff" if how == "renamed" else "00000000000000a0"
    (data / "certificates" / f"{name}.json").write_bytes(document)
    with pytest.raises(InvalidInput, match=f"certificate {name} in .*Nothing was restored"):
        restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert not (target / STAGING).exists() and not (target / "control.db").exists()
    assert town.keys(target).tenant_key(TWO, "test").secret


def test_nobody_else_can_look_into_what_was_restored(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    before = os.umask(0)
    try:
        restored_to(town, stored, tmp_path / "new").close()
    finally:
        os.umask(before)
    wrong = [
        path
        for path in (tmp_path / "new").rglob("*")
        if path.stat().st_mode & 0o077 and path.relative_to(tmp_path / "new").parts[0] not in ("keys", "run")
    ]
    assert wrong == []


def test_a_tenant_of_which_a_backup_holds_nothing_is_told(town: BackupTown, tmp_path: Path) -> None:
    town.installation.close()
    octets = bytearray((town.data / "tenants/2/tenant.db").read_bytes())
    octets[5 * 4096 : 6 * 4096] = bytes(4096)
    (town.data / "tenants/2/tenant.db").write_bytes(octets)
    town.installation = town.open()
    stored = town.backup().stored
    assert stored.manifest.skipped == ("tenant-2",)
    target = tmp_path / "new"
    moved_keys(town, target)
    found = restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert (found.tenants, found.without_part) == (1, ["tenant 2"])


def test_a_restore_that_was_interrupted_goes_on_with_the_same_backup_only(town: BackupTown, tmp_path: Path) -> None:
    first, second = town.backup().stored, town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    rename = Path.rename

    def die(path: Path, to: Path) -> Path:
        if path.name == "control.db":
            raise KeyboardInterrupt
        return rename(path, to)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", die)
        restore_installation(town.place, first, target, town.keys(target), town.clock)
    with pytest.raises(Conflict, match=f"restore of the backup {first.name} .* was interrupted"):
        restore_installation(town.place, second, target, town.keys(target), town.clock)
    with pytest.raises(Conflict, match="was interrupted"):
        restore_installation(town.place, first, target, town.keys(target), town.clock, queue=True)
    restored_to(town, first, target).close()
    assert not (target / STAGING).exists()


def test_a_damaged_certificate_stops_a_restore(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    (target / "certificates").mkdir()
    (target / "certificates/aa.json").write_text("{")
    with pytest.raises(InvalidInput, match="certificate aa"):
        restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert not (target / STAGING).exists() and not (target / "control.db").exists()


def test_a_part_that_no_key_opens_is_left_out_and_told(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    target = tmp_path / "new"
    moved_keys(town, target)
    keys = town.keys(target)
    for path in [path for path in (target / "keys").rglob("2.key") if path.parent.name == str(int(ONE))]:
        path.unlink()
    found = restore_installation(town.place, stored, target, keys, town.clock)
    assert found.without_key == ["account 2 of tenant 1"] and found.accounts == 2


def test_a_target_that_is_not_empty_or_has_no_keys_is_refused(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup().stored
    with pytest.raises(AlreadyExists, match="is not empty"):
        restore_installation(town.place, stored, town.data, town.keys(), town.clock)
    (tmp_path / "none").mkdir()
    with pytest.raises(NotFound, match="no keys"):
        restore_installation(town.place, stored, tmp_path / "none", town.keys(), town.clock)
    (tmp_path / "other").mkdir()
    other = BackupTown(tmp_path / "other", another=True)
    try:
        moved_keys(other, tmp_path / "new")
        with pytest.raises(InvalidInput, match="another installation"):
            restore_installation(town.place, stored, tmp_path / "new", other.keys(tmp_path / "new"), town.clock)
    finally:
        other.close()


def test_a_damaged_file_stops_a_restore_before_anything_is_there(town: BackupTown, tmp_path: Path) -> None:
    stored = town.backup(whole=True).stored
    path = next(iter(stored.path("tenants/2/accounts/3/Maildir/cur").iterdir()))
    octets = path.read_bytes()
    path.unlink()
    path.write_bytes(octets + b"x")
    target = tmp_path / "new"
    moved_keys(town, target)
    with pytest.raises(InvalidInput, match="nothing was restored"):
        restore_installation(town.place, stored, target, town.keys(target), town.clock)
    assert sorted(os.listdir(target)) == ["keys", "run"]
    assert (stored.root / DATA).exists() and whole.check_target(target) is None
