"""Tables of tenant.db: one customer's accounts, addresses and settings, under the tenant's own key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.schema import personal, technical

VERSION = 2

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("state of this database itself"),
)

account = Table(
    "account",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("login", Text, nullable=False, info=personal("user", "primary address, signs in")),  # as given
    Column("login_key", Text, nullable=False, unique=True, info=personal("user", "primary address, canonical")),
    Column("name", Text, nullable=False, info=personal("user", "display name")),
    Column("state", Text, nullable=False),  # active, suspended, ended
    Column("password_hash", Text, nullable=True, info=personal("user", "argon2id verifier")),
    # Rises with every change that must end sessions opened with the password; app passwords have versions of their own.
    Column("credential_version", BigInteger, nullable=False),
    Column("quota_bytes", BigInteger, nullable=False),  # 0: unlimited
    Column("quota_messages", BigInteger, nullable=False),  # 0: unlimited
    Column("catch_all_sender", Boolean, nullable=False),  # may send as any address of its catch-all domains
    Column("created", BigInteger, nullable=False),
    info=technical("mailbox owners"),
)

app_password = Table(
    "app_password",
    metadata,
    # Never used again: sessions name it.
    Column("app_password_id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("account_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False, info=personal("user", "device name, chosen by the user")),
    # Empty once it is revoked.
    Column("verifier", Text, nullable=False, info=personal("user", "keyed hash of a generated password")),
    Column("version", BigInteger, nullable=False),
    Column("protocols", Text, nullable=False),  # space-separated: imap submission dav; empty: all
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=True),
    info=technical("generated passwords for devices"),
    sqlite_autoincrement=True,
)
Index("app_password_by_account", app_password.c.account_id)

# Every address that resolves in this tenant: the accounts' own, aliases, catch-alls ("@domain").
address = Table(
    "address",
    metadata,
    Column("address_key", Text, primary_key=True, info=personal("user", "address, canonical")),
    Column("address", Text, nullable=False, info=personal("user", "address as given")),
    Column("kind", Text, nullable=False),  # account, alias, catch_all
    info=technical("local addresses"),
)

# Where an address leads: accounts of this tenant, other addresses here, or addresses elsewhere.
target = Table(
    "target",
    metadata,
    Column("address_key", Text, primary_key=True, info=personal("user", "address, canonical")),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=True),
    Column("target_address", Text, nullable=True, info=personal("correspondent", "where an alias leads")),
    info=technical("targets of addresses"),
)
Index("target_by_account", target.c.account_id)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False, info=personal("customer", "policy, among it the postmaster's address")),
    info=technical("policy values of the tenant"),
)

# Where the mail of a domain goes; a domain without a row has its mailboxes here.
route = Table(
    "route",
    metadata,
    Column("domain", Text, primary_key=True, info=personal("customer", "mail domain")),
    Column("mode", Text, nullable=False),  # here, server, split (mailboxes that exist here, the rest to the server)
    Column("host", Text, nullable=False, info=personal("customer", "name or address of the customer's mail server")),
    Column("port", Integer, nullable=False),
    Column("tls", Text, nullable=False),  # opportunistic, encrypted, verified
    Column("verify", Boolean, nullable=False),  # recipients are asked for there before they are accepted
    Column("created", BigInteger, nullable=False),
    info=technical("routes of mail domains"),
)

# DKIM keys: made, seen in DNS, signing, retiring (published, no longer signing), retired (published with empty p=).
dkim_key = Table(
    "dkim_key",
    metadata,
    Column("domain", Text, primary_key=True, info=personal("customer", "mail domain")),
    Column("selector", Text, primary_key=True),
    Column("algorithm", Text, nullable=False),  # rsa, ed25519
    Column("private_key", LargeBinary, nullable=True),  # PKCS #8, DER; None once it is retired
    Column("public_key", LargeBinary, nullable=False),  # as p= has it, before base64
    Column("state", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),  # when it came to its state
    info=technical("keys that sign what leaves"),
)

# Reverse-paths of forwarded mail that are too long to be rewritten in themselves (SRS).
srs = Table(
    "srs",
    metadata,
    Column("token", Text, primary_key=True),
    Column("address", Text, nullable=False, info=personal("correspondent", "envelope sender of forwarded mail")),
    Column("expires", BigInteger, nullable=False),
    info=technical("where bounces of forwarded mail lead"),
)
Index("srs_by_end", srs.c.expires)

# Accounts that may not send for the moment, since they sent masses all at once or an operator says so; and those that
# an operator let send again a short while ago.
frozen = Table(
    "frozen",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, info=personal("user", "why the account may not send")),
    Column("thawed", BigInteger, nullable=True),  # since when it may send again
    info=technical("accounts whose sending is stopped"),
)
