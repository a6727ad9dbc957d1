"""A contract ends: nothing can be read, nothing is left, and a certificate says so."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ending_town import TOKEN, EndingTown

from storage.certificates.signing import verify
from storage.certificates.store import Certificates
from storage.collections.values import Content, Kind, NewCollection, file_content
from storage.database.database import Connection, Transaction
from storage.directory.rows import State
from storage.ending.orders import order_account, order_tenant
from storage.ending.steps import Step
from storage.errors import AlreadyExists, Busy, CleanmailError, Conflict, Gone, NotFound, Unavailable
from storage.installation import Installation
from storage.leases import TenantLease
from storage.queue.withdrawal import Withdrawn
from storage.values import AccountId, Domain, EmailAddress, TenantId


@pytest.fixture
def town(tmp_path: Path) -> Iterator[EndingTown]:
    town = EndingTown(tmp_path)
    yield town
    town.close()


def everything(data: Path, below: str = "") -> str:
    """All paths of a data directory."""
    return "\n".join(str(path.relative_to(data)) for path in sorted((data / below).rglob("*")))


def rows_of(town: EndingTown, tenant_id: TenantId) -> dict[str, int]:
    """How many rows of control.db and queue.db name the tenant, by table; those without any are missing."""
    found = {}
    for database in (town.installation.control.database, town.installation.queue.database):
        with database.reading() as connection:
            tables = connection.driver.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                columns = [row[1] for row in connection.driver.execute(f"PRAGMA table_info({table})")]
                if "tenant_id" in columns:
                    statement = f"SELECT count(*) FROM {table} WHERE tenant_id = ?"
                    [(count,)] = connection.driver.execute(statement, (tenant_id,)).fetchall()
                    if count:
                        found[table] = count
    return found


def test_a_contract_ends(town: EndingTown) -> None:
    tenant_id, other = town.tenant(), town.tenant("other", "other.test")
    anna, ben = town.account(tenant_id), town.account(tenant_id, "ben")
    kept = town.account(other, "carl", "other.test")
    town.queued(tenant_id, anna)
    town.queued(other, kept)
    steps: list[Step] = []
    ending_id = town.order(tenant_id)
    assert town.order(tenant_id) == ending_id  # ordered again, it is the same
    assert town.installation.control.tenant(tenant_id).state is State.ENDED
    certificate = town.carry_out(ending_id, progress=lambda step, done, total: steps.append(step))

    assert (certificate.scope.tenant_id, certificate.scope.account_id) == (tenant_id, None)
    assert (certificate.scope.name, certificate.scope.domains) == (TOKEN, (f"{TOKEN}.test",))
    counts = certificate.counts
    assert (counts.accounts, counts.messages, counts.queue_entries, counts.withheld) == (2, 2, 1, 0)
    assert counts.rows == 2 + 1 + 1 + 1  # sign-in names, a domain, an entry and its recipient
    assert counts.files > 4
    assert certificate.search.found == 0
    assert certificate.search.terms >= 8
    assert [each.step for each in certificate.steps] == [step.value for step in Step]
    assert len(certificate.keys.key_ids) in (0, 3)
    assert set(steps) == set(Step) - {Step.ORDERED}
    assert certificate.processes_until is None  # no server runs

    certificates = Certificates(town.data)
    public_key = town.keys.verifying_key("certificate")
    assert verify(certificates.document(ending_id), public_key) == certificate
    assert certificates.pdf(ending_id).startswith(b"%PDF")
    assert town.carry_out(ending_id) == certificate  # as often as one likes
    assert [row.finished is not None for row in town.installation.control.endings.all()] == [True]

    assert not (town.data / "tenants" / str(tenant_id)).exists()
    assert everything(town.data, "erasing") == ""
    assert everything(town.data, "keys/endings") == ""
    assert everything(town.data, "run/endings") == ""
    assert rows_of(town, tenant_id) == {"tenant": 1, "ending": 1}
    with pytest.raises(Gone):
        town.installation.tenant(tenant_id)
    with pytest.raises((Gone, NotFound)), town.another().account(tenant_id, ben):
        pass
    assert town.deliver(other, kept, "second")
    assert town.installation.queue.what_waits(other).entries == 1


def test_a_new_customer_with_the_same_name_and_domain_sees_nothing_old(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    town.queued(tenant_id, anna)
    ending_id = town.order(tenant_id)
    following = town.tenant()  # at once
    again = town.account(following)
    assert (following, again) != (tenant_id, anna)
    with town.installation.account(following, again) as account:
        assert account.usage().messages == 1  # the one that was delivered to it
    assert town.installation.queue.what_waits(following) == Withdrawn()
    login = town.installation.control.find_login(town.installation.control.login_hash(f"anna@{TOKEN}.test"))
    assert login is not None
    assert login.account_id == again
    certificate = town.carry_out(ending_id)  # its rows and files are not taken for remains, nor removed
    assert certificate.scope.tenant_id == tenant_id
    login = town.installation.control.find_login(town.installation.control.login_hash(f"anna@{TOKEN}.test"))
    assert login is not None
    assert login.account_id == again
    assert town.deliver(following, again, "second")


def test_an_account_ends(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna, ben = town.account(tenant_id), town.account(tenant_id, "ben")
    town.provisioning.add_alias(tenant_id, EmailAddress.parse(f"both@{TOKEN}.test"), [town_address("anna")])
    town.queued(tenant_id, anna)
    town.queued(tenant_id, ben)
    town.installation.queue.hold_account(tenant_id, anna)
    certificate = town.end(tenant_id, anna)
    assert (certificate.scope.account_id, certificate.counts.accounts, certificate.counts.messages) == (anna, 1, 1)
    assert certificate.counts.queue_entries == 1
    assert "tenant.db" in certificate.search.searched
    assert not (town.data / "tenants" / str(tenant_id) / "accounts" / str(anna)).exists()
    tenant = town.installation.tenant(tenant_id)
    assert [row.account_id for row in tenant.accounts()] == [ben]
    assert town.installation.control.find_login(town.installation.control.login_hash(str(town_address("anna")))) is None
    waiting = town.installation.queue.what_waits(tenant_id)
    assert waiting.entries == 1
    assert rows_of(town, tenant_id).get("held_account") is None
    assert town.deliver(tenant_id, ben, "second")
    assert not town.deliver(tenant_id, anna, "second")
    again = town.account(tenant_id)
    assert again != anna
    with pytest.raises(NotFound):
        town.order(tenant_id, AccountId(999))


@pytest.mark.parametrize("whole", [True, False], ids=["tenant", "account"])
def test_entries_are_counted_before_nobody_can(town: EndingTown, whole: bool) -> None:
    tenant_id = town.tenant()
    anna, ben, old = (town.account(tenant_id, name) for name in ("anna", "ben", "old"))
    for account_id, number in ((anna, 5), (ben, 3)):
        with town.installation.account(tenant_id, account_id) as account:
            for kind in (Kind.CALENDAR, Kind.ADDRESS_BOOK):
                for each in range(number):
                    content = Content(b"x", "text/plain", f"{kind}-{each}", "VEVENT")
                    account.objects.put(account.collections.list(kind)[0].id, str(each), content)
            folder = account.collections.create(NewCollection(Kind.FOLDER, "files"))
            account.objects.put(folder.id, "large", file_content(bytes(200_000), ""))
    with town.installation.account(tenant_id, old) as account:  # as it was before there were collections
        account.database.write(lambda transaction: transaction.driver.execute("DROP TABLE collection"))
    certificate = town.end(tenant_id, None if whole else anna)
    assert (certificate.counts.entries, certificate.counts.messages) == ((18, 3) if whole else (11, 1))
    document = Certificates(town.data).document(certificate.certificate_id)
    assert verify(document, town.keys.verifying_key("certificate")) == certificate


def test_a_damaged_database_keeps_no_end_waiting_and_its_entries_are_not_made_up(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    town.account(tenant_id, "ben")
    town.installation.forget_account(tenant_id, anna)
    (town.data / "tenants" / str(tenant_id) / "accounts" / str(anna) / "account.db").write_bytes(bytes(8192))
    ending_id = town.order(tenant_id)
    assert town.carry_out(ending_id).counts.entries is None
    assert b'"entries"' not in Certificates(town.data).document(ending_id)


def test_names_that_are_parts_of_others_are_told_apart(town: EndingTown) -> None:
    """anna@ stands in joanna@, who stays; aliases that lead to anna alone go with her, and are searched for."""
    tenant_id = town.tenant()
    anna, joanna = town.account(tenant_id), town.account(tenant_id, "joanna")
    for alias, targets in (("mine", ["anna"]), ("both", ["anna", "joanna"]), ("first", ["anna"]), ("far", ["first"])):
        town.provisioning.add_alias(tenant_id, town_address(alias), [town_address(each) for each in targets])
    ending_id = town.order(tenant_id, anna)
    (town.data / "run" / "dump").write_bytes(f"to mine@{TOKEN}.test".encode())
    with pytest.raises(Conflict, match="1 in files"):
        town.carry_out(ending_id)
    (town.data / "run" / "dump").write_bytes(f"to both@{TOKEN}.test, joanna@{TOKEN}.test, first@{TOKEN}.test".encode())
    certificate = town.carry_out(ending_id)
    assert certificate.search.found == certificate.search.unsearched == 0
    assert [row.account_id for row in town.installation.tenant(tenant_id).accounts()] == [joanna]


def test_what_is_not_searched_for_is_counted(town: EndingTown) -> None:
    tenant_id = town.tenant("tiny", "tiny.test")
    town.account(tenant_id, "anna", "tiny.test")
    assert town.end(tenant_id).search.unsearched == 1  # the short name "tiny"
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    name = f"anna of {TOKEN}"
    town.provisioning.create_account(tenant_id, town_address("twin"), name=name.upper())
    assert town.end(tenant_id, anna).search.unsearched == 1  # the name that another has too


def test_a_thorough_search_is_ordered_with_the_ending(town: EndingTown) -> None:
    tenant_id, other = town.tenant(), town.tenant("other", "other.test")
    ending_id = order_tenant(town.installation, tenant_id, "root", "", thorough=True)
    dump = town.data / "tenants" / str(other) / "dump"
    dump.write_bytes(f"x@{TOKEN}.test".encode())
    with pytest.raises(Conflict, match="1 in files"):
        town.carry_out(ending_id)
    dump.unlink()
    assert town.carry_out(ending_id).search.thorough
    second = town.order(other)
    with pytest.raises(Conflict, match="without a thorough search"):
        order_tenant(town.installation, other, "root", "", thorough=True)
    assert not town.carry_out(second).search.thorough


def test_a_certificate_of_an_account_says_until_when_processes_go_on(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    people = Stubborn(town, tenant_id)
    people.lease.release()
    certificate = town.carry_out(town.order(tenant_id, anna), people)
    assert certificate.processes_until == town.clock.now() + 60
    assert people.recycled == 0


def town_address(name: str) -> EmailAddress:
    return EmailAddress.parse(f"{name}@{TOKEN}.test")


def test_the_contract_ends_while_an_account_of_it_does(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    of_account = town.order(tenant_id, anna)
    town.end(tenant_id)
    assert town.carry_out(of_account).scope.account_id == anna
    assert rows_of(town, tenant_id) == {"tenant": 1, "ending": 2}
    with pytest.raises(Gone):
        order_account(town.installation, tenant_id, AccountId(999), "root", "")


class Cost:
    """Statements and steps of SQLite's machine, of readers and writers, and files that are opened."""

    def __init__(self, town: EndingTown) -> None:
        installation = town.installation
        self._databases = [installation.control.database, installation.queue.database, installation.audit._database]
        self.statements = self.steps = self.files = 0

    def _set(self, trace: Callable[[str], None] | None, step: Callable[[], int] | None) -> None:
        for database in self._databases:

            def on(connection: Connection) -> None:
                connection.driver.set_trace_callback(trace)
                connection.driver.set_progress_handler(step, 100)

            database.write(on)
            with database.reading() as connection:
                on(connection)

    def _statement(self, _: str) -> None:
        self.statements += 1

    def _step(self) -> int:
        self.steps += 100
        return 0

    @contextmanager
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        real = os.open

        def open_counted(*given: object, **more: object) -> int:
            self.files += 1
            return real(*given, **more)  # type: ignore[arg-type]

        self._set(self._statement, self._step)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(os, "open", open_counted)
                yield
        finally:
            self._set(None, None)


def test_it_costs_the_same_however_many_tenants_there_are(town: EndingTown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two endings; between them the directory grows by thousands of tenants, with all that belongs to them."""

    def cost() -> Cost:
        tenant_id = town.tenant()
        town.account(tenant_id)
        counted = Cost(town)
        with counted.counted(monkeypatch):
            town.carry_out(town.order(tenant_id))
        return counted

    def fill(transaction: Transaction) -> None:
        for number in range(1000, 4000):
            for statement, row in (
                ("INSERT INTO tenant VALUES (?, ?, ?, ?, ?, ?)", (number, f"t{number}", b"", "active", 1, 0)),
                ("INSERT INTO login VALUES (?, ?, ?)", (b"%d" % number, number, number)),
                (
                    "INSERT INTO staff (name, roles, tenant_id, totp_used, failures, failed, credential_version,"
                    " created) VALUES (?, 'tenant_administrator', ?, 0, 0, 0, 1, 0)",
                    (f"a{number}", number),
                ),
                (
                    "INSERT INTO ending (ending_id, tenant_id, step, begun, finished, ordered_by, reason, progress)"
                    " VALUES (?, ?, 'certified', 0, 0, 'root', '', '{}')",
                    (f"e{number}", number),
                ),
                (
                    "INSERT INTO review (quarantine_id, tenant_id, asked, reason, state) VALUES (?, ?, 0, '', '')",
                    (f"q{number}", number),
                ),
            ):
                transaction.driver.execute(statement, row)

    cost()
    few = cost()
    town.installation.control.database.write(fill)
    many = cost()
    assert few.statements > 50
    assert (many.statements, many.files) == (few.statements, few.files)
    assert abs(many.steps - few.steps) < 1000  # less than one step for each of the others


def test_a_hold_stops_it_until_it_is_lifted(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    holds = town.installation.control.holds
    ending_id = town.order(tenant_id, anna)
    hold = holds.add(
        tenant_id, None, ends=town.clock.now() + 86_400, reason="a court", asked_by="ada", approved_by="bob"
    )
    with pytest.raises(Conflict, match="legal hold"):
        town.carry_out(ending_id)
    with pytest.raises(Conflict, match="legal hold"):
        town.order(tenant_id)
    assert town.installation.control.tenant(tenant_id).state is State.ACTIVE
    town.clock.advance(60)
    holds.lift(hold.hold_id, "ada")
    [held] = town.carry_out(ending_id).holds
    assert held.hold_id == hold.hold_id


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_wrong_clock_ends_no_hold(town: EndingTown, days: int) -> None:
    """Whoever orders it, and whatever the clock says of the hold's beginning and end."""
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    ending_id = town.order(tenant_id, anna)
    town.installation.control.holds.add(
        tenant_id, None, ends=town.clock.now() + 86_400, reason="a court", asked_by="ada", approved_by="bob"
    )
    town.clock.jump(days * 86_400)
    with pytest.raises(Conflict, match="legal hold"):
        town.carry_out(ending_id)
    with pytest.raises(Conflict, match="legal hold"):
        town.order(tenant_id)


def test_a_contract_does_not_end_by_a_clock_that_is_not_believed(
    town: EndingTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = town.tenant()

    def wrong() -> None:
        raise Unavailable("The clock is wrong.")

    monkeypatch.setattr(town.installation.clock_guard, "check", wrong)
    with pytest.raises(Unavailable, match="clock"):
        order_tenant(town.installation, tenant_id, "contract", "")
    assert order_tenant(town.installation, tenant_id, "root", "")  # a person orders it


class Stubborn:
    """Another process that has the tenant open until it is killed."""

    def __init__(self, town: EndingTown, tenant_id: TenantId) -> None:
        self.lease = TenantLease(town.data, tenant_id)
        self.lease.acquire()
        self.asked = 0
        self.killed = self.recycled = 0
        self._clock = town.clock

    def holding(self, tenant_id: TenantId, folder: Path, *, keys: bool) -> frozenset[int]:
        self.asked += 1
        self._clock.advance(2)
        return frozenset({4711} if self.lease.held else ())

    def kill(self, tenant_id: TenantId, processes: frozenset[int]) -> int:
        self.killed += len(processes)
        self.lease.release()
        return len(processes)

    def replaced_until(self, now: int) -> int | None:
        return now + 60

    def recycle(self, tenant_id: TenantId) -> int:
        self.recycled += 1
        return 3

    def recycle_key_holder(self) -> int:
        assert self.recycled  # it is the last one
        return 1


def test_who_does_not_let_go_is_killed(town: EndingTown) -> None:
    tenant_id = town.tenant()
    people = Stubborn(town, tenant_id)
    certificate = town.carry_out(town.order(tenant_id), people)
    assert people.killed == 1
    assert (certificate.processes_killed, certificate.processes_recycled) == (1, 4)


def test_what_nobody_can_kill_puts_it_off(town: EndingTown) -> None:
    tenant_id = town.tenant()
    people = Stubborn(town, tenant_id)
    people.kill = lambda tenant_id, processes: 0  # type: ignore[method-assign]
    ending_id = town.order(tenant_id)
    with pytest.raises(Unavailable, match="does not let go"):
        town.carry_out(ending_id, people)
    assert town.installation.control.endings.find(ending_id).step is Step.FENCED
    people.lease.release()
    assert town.carry_out(ending_id, people).processes_killed == 0


def test_one_process_carries_it_out_and_the_other_says_so(town: EndingTown) -> None:
    tenant_id = town.tenant()
    ending_id = town.order(tenant_id)
    said: list[str] = []

    def meanwhile(step: Step, done: int, total: int) -> None:
        if step is Step.FILES_REMOVED or not said:
            with pytest.raises(Busy) as raised:
                town.carry_out(ending_id)
            said.append(raised.value.public)

    town.carry_out(ending_id, progress=meanwhile)
    assert set(said) == {"Another process carries out this ending."}


def test_a_customers_administrators_end_with_the_contract(town: EndingTown) -> None:
    tenant_id, other = town.tenant(), town.tenant("other", "other.test")
    staff = town.installation.control.staff
    for name, of in (("his", tenant_id), ("others", other), ("ours", None)):
        staff.add(name, ("tenant_administrator" if of else "operator",), of, "hash", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    town.end(tenant_id)
    assert {member.name: member.ended is not None for member in staff.all()} == {
        "his": True,
        "others": False,
        "ours": False,
    }
    with town.installation.control.database.reading() as connection:
        [plan] = connection.driver.execute(
            "EXPLAIN QUERY PLAN UPDATE staff SET ended = 1 WHERE tenant_id = 1 AND ended IS NULL"
        ).fetchall()
    assert "staff_by_tenant" in str(plan)


class Stop(Exception):  # noqa: N818 - no error
    pass


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.ORDERED])
@pytest.mark.parametrize("whole", [True, False], ids=["tenant", "account"])
def test_it_goes_on_wherever_it_was_interrupted(town: EndingTown, step: Step, whole: bool) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    town.queued(tenant_id, anna)
    ending_id = town.order(tenant_id, None if whole else anna)

    def stop(reached: Step, done: int, total: int) -> None:
        if reached is step:
            raise Stop

    with pytest.raises(Stop):
        town.carry_out(ending_id, progress=stop)
    town.clock.advance(3600)
    certificate = town.carry_out(ending_id)
    assert (certificate.counts.messages, certificate.counts.queue_entries) == (1, 1)
    assert certificate.keys.at == certificate.unreadable
    assert everything(town.data, "erasing") == ""
    assert len(Certificates(town.data).all()) == 1


def test_remains_keep_it_from_being_certified(town: EndingTown) -> None:
    tenant_id = town.tenant()
    town.account(tenant_id)
    ending_id = town.order(tenant_id)
    (town.data / "run" / "dump").write_bytes(f"anna@{TOKEN}.test".encode())
    with pytest.raises(Conflict, match="1 in files"):
        town.carry_out(ending_id)
    assert Certificates(town.data).all() == []
    (town.data / "run" / "dump").unlink()
    assert town.carry_out(ending_id).search.found == 0


def test_a_full_disk_puts_it_off(town: EndingTown, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant_id = town.tenant()
    town.account(tenant_id)
    ending_id = town.order(tenant_id)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(CleanmailError):
            town.carry_out(ending_id)
    assert town.carry_out(ending_id).counts.messages == 1


def test_a_tenant_that_is_damaged_ends_all_the_same(town: EndingTown) -> None:
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    town.close()
    (town.data / "tenants" / str(tenant_id) / "tenant.db").write_bytes(b"\0" * 4096)
    town.installation = Installation(town.data, town.keys, town.clock)
    certificate = town.end(tenant_id)
    assert (certificate.counts.accounts, certificate.counts.messages) == (1, 1)
    assert rows_of(town, tenant_id) == {"tenant": 1, "ending": 1}
    assert anna


def test_nothing_else_deletes_accounts_or_tenants() -> None:
    """Keys are destroyed, and rows of accounts removed, by endings, which are certified, and again after a restore."""
    calls = re.compile(r"\.(destroy_(tenant|account)(_key)?|remove_account)\((?!self, |transaction)")
    root = Path(__file__).resolve().parents[2]
    found = {
        str(path.relative_to(root))
        for layer in ("storage", "gateway", "hosting", "scripts")
        for path in (root / layer).rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8"))
    }
    handed_on = ("storage/keys/", "hosting/auth/")  # to those that a role's grants allow it
    assert {path for path in found if not path.startswith(handed_on)} == {
        "storage/ending/scopes.py",
        "storage/backup/ledger.py",
        "hosting/cli/keys.py",
    }


def test_a_slug_in_use_is_not_taken(town: EndingTown) -> None:
    town.tenant()
    with pytest.raises(AlreadyExists):
        town.tenant()
    assert town.installation.control.domain(Domain.parse(f"{TOKEN}.test")).verified


@pytest.mark.parametrize("whole", [True, False])
def test_what_cannot_be_reached_now_is_gathered_before_keys_are_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    town = EndingTown(tmp_path)
    tenant_id = town.tenant()
    account_id = town.account(tenant_id)
    number = town.order(tenant_id, None if whole else account_id)

    def away(*_: object) -> None:
        raise Unavailable("The auth role is being started again.")

    with monkeypatch.context() as patch:
        patch.setattr(town.keys, "tenant_key" if whole else "account_key", away)
        with pytest.raises(Unavailable):
            town.carry_out(number)
    assert not town.installation.control.endings.find(number).has(Step.ALONE)
    assert town.carry_out(number).search.terms >= 3
    town.close()
