"""What SCRAM-SHA-256 compares: salted keys of an account's credentials, made where a password is known in clear.

A client asks for salt and rounds before it says which of its credentials it has, so all of an account share both. They
are no secret, but they must not tell who exists: a salt is made of the keyed hash of the login name, the same before an
account is there, while it has no keys, and after it has some; and rounds are the same for everybody. A generated
password cannot be guessed, so few rounds do for it, and there are programs that refuse many (Cyrus SASL takes 65,536);
where main passwords are for SCRAM too, a thief of the database has to be slowed down, and all have many rounds. So an
app password has keys for both, and a main password for many rounds alone.

An app password has keys for both ways in which people write it, too, with hyphens and without, since a client hashes
what was typed. Writing belongs to a transaction of whoever owns the credential, so that keys come and go with it.

Standards: RFC 5802 §3 (keys), RFC 7677 §3.1 (SHA-256, at least 4,096 rounds), RFC 4013 (SASLprep), RFC 8018 §5.2.
"""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import bindparam, insert, select
from sqlalchemy import delete as sql_delete

from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.keys.sealing import keyed_hash
from storage.schema import tenant as schema
from storage.values import AccountId

FEW_ROUNDS: Final = 4096  # RFC 7677 §4: at least
MANY_ROUNDS: Final = 100_000
MAIN: Final = 0  # the account's own password, in place of an app password's number
WAYS: Final = 2  # at most so many keys has one credential for the same rounds

_SALT_SIZE = 16

_salt, _key = schema.scram_salt, schema.scram_key
_SALT = prepare(select(_salt.c.salt).where(_salt.c.account_id == bindparam("id")))
_INSERT_SALT = prepare(insert(_salt).values(account_id=bindparam("id"), salt=bindparam("salt")))
_KEYS = prepare(
    select(_key.c.app_password_id, _key.c.stored_key, _key.c.server_key)
    .where(_key.c.account_id == bindparam("id"), _key.c.rounds == bindparam("rounds"))
    .order_by(_key.c.app_password_id, _key.c.way)
)
_WHO = prepare(select(_key.c.app_password_id).where(_key.c.account_id == bindparam("id")))
_INSERT_KEY = prepare(
    insert(_key).values(
        account_id=bindparam("id"),
        app_password_id=bindparam("number"),
        rounds=bindparam("rounds"),
        way=bindparam("way"),
        stored_key=bindparam("stored"),
        server_key=bindparam("server"),
    )
)
_DELETE_KEYS = prepare(
    sql_delete(_key).where(_key.c.account_id == bindparam("id"), _key.c.app_password_id == bindparam("number"))
)
_DELETE_ALL_KEYS = prepare(sql_delete(_key).where(_key.c.account_id == bindparam("id")))
_DELETE_SALT = prepare(sql_delete(_salt).where(_salt.c.account_id == bindparam("id")))


@dataclass(frozen=True, slots=True)
class ScramKey:
    """Of one password under one salt."""

    rounds: int
    stored: bytes = field(repr=False)
    server: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramCredential:
    app_password_id: int  # MAIN: the account's own password
    key: ScramKey


def salt_of(login_hash: bytes) -> bytes:
    """For a login name, whoever has it or nobody."""
    return keyed_hash(login_hash, b"scram salt")[:_SALT_SIZE]


def make_key(password: str, salt: bytes, rounds: int) -> ScramKey | None:
    """Takes about 25 ms for many rounds. None: the text cannot be a password of SCRAM (RFC 4013 §2.3)."""
    prepared = saslprep(password)
    if not prepared:
        return None
    salted = hashlib.pbkdf2_hmac("sha256", prepared.encode("utf-8"), salt, rounds)
    # RFC 5802 §3: StoredKey := H(HMAC(SaltedPassword, "Client Key")), ServerKey := HMAC(SaltedPassword, "Server Key")
    client = hmac.digest(salted, b"Client Key", "sha256")
    return ScramKey(rounds, hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))


def keys_of_app_password(shown: str, salt: bytes) -> list[ScramKey]:
    """For every way of writing it and for few and many rounds."""
    found = [
        make_key(text, salt, rounds) for rounds in (FEW_ROUNDS, MANY_ROUNDS) for text in (shown, shown.replace("-", ""))
    ]
    return [key for key in found if key is not None]


def saslprep(text: str) -> str | None:
    """RFC 4013, for a stored string; None if it has characters that are prohibited."""
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each for each in text if not stringprep.in_table_b1(each)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(_prohibited(each) for each in prepared):
        return None
    if any(stringprep.in_table_d1(each) for each in prepared):  # RFC 3454 §6: from right to left, and nothing else
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(stringprep.in_table_d2(each) for each in prepared):
            return None
    return prepared


def _prohibited(each: str) -> bool:
    return any(
        holds(each)
        for holds in (
            stringprep.in_table_a1,
            stringprep.in_table_c12,
            stringprep.in_table_c21_c22,
            stringprep.in_table_c3,
            stringprep.in_table_c4,
            stringprep.in_table_c5,
            stringprep.in_table_c6,
            stringprep.in_table_c7,
            stringprep.in_table_c8,
            stringprep.in_table_c9,
        )
    )


class ScramKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def salt(self, account_id: AccountId) -> bytes | None:
        """None while the account has no credential with keys."""
        with self._database.reading() as connection:
            row = _SALT.one(connection, id=account_id)
        return bytes(row[0]) if row is not None else None

    def credentials(self, account_id: AccountId, rounds: int) -> list[ScramCredential]:
        with self._database.reading() as connection:
            return [
                ScramCredential(number, ScramKey(rounds, stored, server))
                for number, stored, server in _KEYS.rows(connection, id=account_id, rounds=rounds)
            ]

    def having(self, account_id: AccountId) -> frozenset[int]:
        """The app passwords that have keys, and MAIN if the account's own password has."""
        with self._database.reading() as connection:
            return frozenset(row[0] for row in _WHO.rows(connection, id=account_id))


def put_keys(
    transaction: Transaction, account_id: AccountId, number: int, salt: bytes, keys: Sequence[ScramKey]
) -> bool:
    """In place of what the credential had. False, and it has none: the account's salt has become another."""
    remove_keys(transaction, account_id, number)
    row = _SALT.one(transaction, id=account_id)
    if row is None:
        _INSERT_SALT.run(transaction, id=account_id, salt=salt)
    elif row[0] != salt:
        return False
    for way, key in enumerate(keys):
        values = {"rounds": key.rounds, "way": way, "stored": key.stored, "server": key.server}
        _INSERT_KEY.run(transaction, id=account_id, number=number, **values)
    return True


def remove_keys(transaction: Transaction, account_id: AccountId, number: int) -> None:
    _DELETE_KEYS.run(transaction, id=account_id, number=number)


def remove_account(transaction: Transaction, account_id: AccountId) -> None:
    _DELETE_ALL_KEYS.run(transaction, id=account_id)
    _DELETE_SALT.run(transaction, id=account_id)
