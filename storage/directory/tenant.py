"""One tenant's directory, tenant.db: accounts with their credentials, addresses and settings, under the tenant's key.

Every change is durable on return. `credential_version` rises in the commit of every change that must end sessions
opened with the account's own password; device passwords have versions of their own. Nobody is told here that something
changed: `storage.directory.provisioning` announces it after the commit.

Raises: NotFound, AlreadyExists, Conflict (the state does not allow it), InvalidInput, Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import delete as sql_delete

from storage.clock import Clock
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.migrations import Schema, new_tables
from storage.database.prepared import Prepared, prepare
from storage.directory import scram
from storage.directory.addresses import Addresses, insert_account_address
from storage.directory.app_passwords import AppPasswords, make_app_password_key
from storage.directory.dkim_keys import DkimKeys
from storage.directory.frozen import FrozenAccounts
from storage.directory.mailbox_rights import MailboxRights
from storage.directory.routes import Routes
from storage.directory.rows import NEXT_STATES, AccountRow, State
from storage.directory.shares import Shares
from storage.directory.srs import Srs
from storage.errors import CleanmailError, Conflict, InvalidInput, NotFound
from storage.filter.corrections import Corrections
from storage.filter.correspondents import Correspondents
from storage.filter.reputation import Reputation
from storage.filter.rules import FilterRules
from storage.keys.source import Key
from storage.quarantine.rows import QuarantineRows
from storage.register import classes
from storage.register.values import database_files
from storage.schema import tenant as schema
from storage.values import AccountId, EmailAddress, TenantId

FILES = database_files("tenants/*/tenant.db", classes.ACCOUNTS)
SCHEMA = Schema(
    "tenant",
    schema.VERSION,
    schema.metadata,
    steps=[
        new_tables(2, schema.route, schema.dkim_key, schema.srs, schema.frozen),
        new_tables(
            3,
            schema.quarantine,
            schema.quarantine_recipient,
            schema.quarantine_unlink,
            schema.filter_setting,
            schema.filter_list,
            schema.correspondent,
            schema.reputation,
            schema.correction,
            schema.lesson,
        ),
        new_tables(4, schema.share),
        new_tables(5, schema.scram_salt, schema.scram_key, schema.mailbox_right),
    ],
)

QUOTA_MAX = 1 << 62

_account, _setting = schema.account, schema.setting
_COLUMNS = (
    _account.c.account_id,
    _account.c.login,
    _account.c.name,
    _account.c.state,
    _account.c.credential_version,
    _account.c.quota_bytes,
    _account.c.quota_messages,
    _account.c.catch_all_sender,
    _account.c.created,
)
_THIS = _account.c.account_id == bindparam("id")

_ALL = prepare(select(*_COLUMNS).order_by(_account.c.account_id))
_ONE = prepare(select(*_COLUMNS).where(_THIS))
_BY_LOGIN = prepare(select(*_COLUMNS).where(_account.c.login_key == bindparam("key")))
_FIRST_ACTIVE = prepare(
    select(_account.c.account_id).where(_account.c.state == State.ACTIVE.value).order_by(_account.c.account_id).limit(1)
)
_CREDENTIALS = prepare(select(*_COLUMNS, _account.c.password_hash).where(_THIS))
_INSERT = prepare(insert(_account))
_SET_PASSWORD = prepare(
    update(_account)
    .where(_THIS)
    .values(password_hash=bindparam("verifier"), credential_version=_account.c.credential_version + 1)
)
_REHASH = prepare(
    update(_account)
    .where(_THIS, _account.c.password_hash == bindparam("old"))
    .values(password_hash=bindparam("verifier"))
)
_SET_STATE = prepare(
    update(_account).where(_THIS).values(state=bindparam("next"), credential_version=_account.c.credential_version + 1)
)
_SET_QUOTA = prepare(
    update(_account).where(_THIS).values(quota_bytes=bindparam("octets"), quota_messages=bindparam("messages"))
)
_QUOTAS = prepare(select(_account.c.quota_bytes).where(_account.c.state != State.ENDED.value))
_SET_CATCH_ALL_SENDER = prepare(update(_account).where(_THIS).values(catch_all_sender=bindparam("granted")))
_DELETE = prepare(sql_delete(_account).where(_THIS))
_GET_SETTING = prepare(select(_setting.c.value).where(_setting.c.name == bindparam("which")))
_ALL_SETTINGS = prepare(select(_setting.c.name, _setting.c.value))
_INSERT_SETTING = prepare(insert(_setting))
_UPDATE_SETTING = prepare(update(_setting).where(_setting.c.name == bindparam("which")).values(value=bindparam("text")))
_DELETE_SETTING = prepare(sql_delete(_setting).where(_setting.c.name == bindparam("which")))


Room = Callable[[Sequence[int]], None]
"""Refuses, by raising, what the quotas of all accounts would be; called in the transaction that changes them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account with the verifier of its password, for the auth role only."""

    account: AccountRow
    password_hash: str | None = field(repr=False)


class Tenant:
    """`addresses`, `app_passwords`, `routes`, `srs` and `dkim_keys` are the other stores of the same database."""

    def __init__(self, database: Database, tenant_id: TenantId, key: Key, clock: Clock) -> None:
        self.tenant_id = tenant_id
        self._database = database
        self._clock = clock
        self.addresses = Addresses(database)
        self.frozen = FrozenAccounts(database, clock)
        self.app_passwords = AppPasswords(database, clock)
        self.scram = scram.ScramKeys(database)
        self.routes = Routes(database, clock)
        self.srs = Srs(database, key.secret, clock)
        self.dkim_keys = DkimKeys(database, clock)
        self.shares = Shares(database, clock)
        self.mailbox_rights = MailboxRights(database, clock)
        self.quarantine = QuarantineRows(database, key, clock)
        self.filter_rules = FilterRules(database, clock)
        self.correspondents = Correspondents(database, key.secret, clock)
        self.reputation = Reputation(database, key.secret, clock)
        self.corrections = Corrections(database, key.secret, clock)

    @classmethod
    def create(
        cls, path: Path, tenant_id: TenantId, key: Key, clock: Clock, *, checkpointer: Checkpointer | None = None
    ) -> Self:
        database = Database.create(
            path, key.secret, SCHEMA, clock, fill=make_app_password_key, checkpointer=checkpointer
        )
        return cls(database, tenant_id, key, clock)

    @classmethod
    def open(
        cls, path: Path, tenant_id: TenantId, key: Key, clock: Clock, *, checkpointer: Checkpointer | None = None
    ) -> Self:
        return cls(Database.open(path, key.secret, SCHEMA, clock, checkpointer=checkpointer), tenant_id, key, clock)

    def flush(self, *, at_once: bool = False) -> None:
        """Write what was recorded here of correspondents and senders; unless `at_once`, what has waited its time."""
        self.correspondents.flush()
        self.reputation.flush(at_once=at_once)

    def close(self) -> None:
        with suppress(CleanmailError):
            self.flush(at_once=True)
        self._database.close()

    @property
    def database(self) -> Database:
        """For retention, which looks at the age of rows in every table."""
        return self._database

    # Accounts

    def accounts(self) -> list[AccountRow]:
        """All of them, in the order of their ids; those whose deletion was interrupted are ENDED."""
        with self._database.reading() as connection:
            return [_row(row) for row in _ALL.rows(connection)]

    def account(self, account_id: AccountId) -> AccountRow:
        with self._database.reading() as connection:
            row = _ONE.one(connection, id=account_id)
        if row is None:
            raise NotFound(f"There is no account {account_id}.")
        return _row(row)

    def account_by_address(self, address: EmailAddress) -> AccountRow:
        """The account whose primary address it is."""
        with self._database.reading() as connection:
            row = _BY_LOGIN.one(connection, key=address.key)
        if row is None:
            raise NotFound(f"There is no account {address}.")
        return _row(row)

    def first_account(self) -> AccountId | None:
        """The active account with the lowest id: whom postmaster@ reaches when nobody else is named."""
        with self._database.reading() as connection:
            row = _FIRST_ACTIVE.one(connection)
        return AccountId(row[0]) if row is not None else None

    def credentials(self, account_id: AccountId) -> Credentials | None:
        with self._database.reading() as connection:
            row = _CREDENTIALS.one(connection, id=account_id)
        return Credentials(_row(row[:-1]), row[-1]) if row is not None else None

    def insert_account(
        self,
        account_id: AccountId,
        address: EmailAddress,
        *,
        name: str,
        password_hash: str | None,
        quota_bytes: int,
        quota_messages: int,
        claim: Callable[[], None],
        room: Room | None = None,
    ) -> AccountRow:
        """The commit that makes an account exist; its key, folder and database exist already.

        `claim` lets the address sign in. It is called inside the transaction, once the address is known to be free, so
        that of two who create the same account at once the one who gets it is the one who signs in.
        """
        _check_quota(quota_bytes, quota_messages)
        row = AccountRow(
            account_id, address, name, State.ACTIVE, 1, quota_bytes, quota_messages, False, self._clock.now()
        )

        def work(transaction: Transaction) -> None:
            insert_account_address(transaction, address, account_id)  # AlreadyExists if the address leads somewhere
            _check_room(transaction, room, quota_bytes)
            claim()
            _INSERT.run(
                transaction,
                account_id=account_id,
                login=str(address),
                login_key=address.key,
                name=name,
                state=row.state.value,
                password_hash=password_hash,
                credential_version=row.credential_version,
                quota_bytes=quota_bytes,
                quota_messages=quota_messages,
                catch_all_sender=False,
                created=row.created,
            )

        self._database.write(work)
        return row

    def set_password(self, account_id: AccountId, password_hash: str | None) -> None:
        """None: only device passwords sign in. What SCRAM knew of the old one goes in the same commit."""

        def work(transaction: Transaction) -> bool:
            scram.remove_keys(transaction, account_id, scram.MAIN)
            return bool(_SET_PASSWORD.run(transaction, id=account_id, verifier=password_hash))

        if not self._database.write(work):
            raise NotFound(f"There is no account {account_id}.")

    def set_scram_key(self, account_id: AccountId, password_hash: str, salt: bytes, key: scram.ScramKey | None) -> bool:
        """What SCRAM knows of the account's own password, unless that was changed meanwhile; None: nothing."""

        def work(transaction: Transaction) -> bool:
            row = _CREDENTIALS.one(transaction, id=account_id)
            if row is None or row[-1] != password_hash:
                return False
            if key is None:
                scram.remove_keys(transaction, account_id, scram.MAIN)
                return True
            return scram.put_keys(transaction, account_id, scram.MAIN, salt, [key])

        done: bool = self._database.write(work)
        return done

    def replace_hash(self, account_id: AccountId, old: str, new: str) -> None:
        """The same password under new parameters; nothing happens if it was changed meanwhile."""
        self._database.write(lambda t: _REHASH.run(t, id=account_id, old=old, verifier=new))

    def set_quota(
        self, account_id: AccountId, *, quota_bytes: int, quota_messages: int, room: Room | None = None
    ) -> None:
        _check_quota(quota_bytes, quota_messages)

        def work(transaction: Transaction) -> None:
            if not _SET_QUOTA.run(transaction, id=account_id, octets=quota_bytes, messages=quota_messages):
                raise NotFound(f"There is no account {account_id}.")
            _check_room(transaction, room)

        self._database.write(work)

    def allow_catch_all_sender(self, account_id: AccountId, granted: bool) -> None:
        self._change(_SET_CATCH_ALL_SENDER, account_id, granted=granted)

    def change_state(self, account_id: AccountId, following: State) -> bool:
        """Suspend, resume or end. False: it was in that state already."""

        def work(transaction: Transaction) -> bool:
            row = _ONE.one(transaction, id=account_id)
            if row is None:
                raise NotFound(f"There is no account {account_id}.")
            state = _row(row).state
            if state is following:
                return False
            if following not in NEXT_STATES[state]:
                raise Conflict(f"An account that is {state} cannot become {following}.")
            _SET_STATE.run(transaction, id=account_id, next=following.value)
            return True

        changed: bool = self._database.write(work)
        return changed

    def remove_account(self, account_id: AccountId) -> None:
        """Every row of an ENDED account: device passwords, addresses, its place in aliases, and itself."""

        def work(transaction: Transaction) -> None:
            row = _ONE.one(transaction, id=account_id)
            if row is None:
                return
            if _row(row).state is not State.ENDED:
                raise Conflict("The account is still in use.")
            self.app_passwords.remove_account(transaction, account_id)
            scram.remove_account(transaction, account_id)
            self.addresses.remove_account(transaction, account_id)
            self.frozen.remove_account(transaction, account_id)
            self.shares.remove_account(transaction, account_id)
            self.mailbox_rights.remove_account(transaction, account_id)
            self.quarantine.remove_account(transaction, account_id)
            self.filter_rules.remove_account(transaction, account_id)
            self.correspondents.remove_account(transaction, account_id)
            self.reputation.withdraw(transaction, self.corrections.every_voice(transaction, account_id))
            self.corrections.remove_account(transaction, account_id)
            _DELETE.run(transaction, id=account_id)

        self._database.write(work)

    def _change(self, statement: Prepared, account_id: AccountId, **values: Any) -> None:
        if not self._database.write(lambda t: statement.run(t, id=account_id, **values)):
            raise NotFound(f"There is no account {account_id}.")

    # Settings

    def setting(self, name: str) -> str | None:
        with self._database.reading() as connection:
            row = _GET_SETTING.one(connection, which=name)
        return str(row[0]) if row is not None else None

    def settings(self, beginning: str) -> dict[str, str]:
        """All whose names begin so."""
        with self._database.reading() as connection:
            return {name: value for name, value in _ALL_SETTINGS.rows(connection) if name.startswith(beginning)}

    def set_setting(self, name: str, value: str | None) -> None:
        """None removes it."""

        def work(transaction: Transaction) -> None:
            if value is None:
                _DELETE_SETTING.run(transaction, which=name)
            elif not _UPDATE_SETTING.run(transaction, which=name, text=value):
                _INSERT_SETTING.run(transaction, name=name, value=value)

        self._database.write(work)


def _check_room(transaction: Transaction, room: Room | None, *new: int) -> None:
    if room is not None:
        room([*(row[0] for row in _QUOTAS.rows(transaction)), *new])


def _check_quota(quota_bytes: int, quota_messages: int) -> None:
    if not (0 <= quota_bytes <= QUOTA_MAX and 0 <= quota_messages <= QUOTA_MAX):
        raise InvalidInput("A quota is a number from 0 (unlimited) upwards.")


def _row(row: tuple[Any, ...]) -> AccountRow:
    return AccountRow(
        AccountId(row[0]),
        EmailAddress.parse(row[1]),
        row[2],
        State(row[3]),
        row[4],
        row[5],
        row[6],
        bool(row[7]),
        row[8],
    )
