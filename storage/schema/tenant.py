"""Tables of tenant.db: one customer's accounts, addresses and settings, under the tenant's own key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.register import classes
from storage.schema import personal, technical

VERSION = 5

metadata = MetaData()

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    info=technical("state of this database itself", of=classes.TENANT_STATE),
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
    info=technical("mailbox owners", of=classes.ACCOUNTS),
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
    info=technical("generated passwords for devices", of=classes.ACCOUNTS),
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
    info=technical("local addresses", of=classes.ACCOUNTS),
)

# Where an address leads: accounts of this tenant, other addresses here, or addresses elsewhere.
target = Table(
    "target",
    metadata,
    Column("address_key", Text, primary_key=True, info=personal("user", "address, canonical")),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=True),
    Column("target_address", Text, nullable=True, info=personal("correspondent", "where an alias leads")),
    info=technical("targets of addresses", of=classes.ACCOUNTS),
)
Index("target_by_account", target.c.account_id)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False, info=personal("customer", "policy, among it the postmaster's address")),
    info=technical("policy values of the tenant", of=classes.SETTINGS),
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
    info=technical("routes of mail domains", of=classes.SETTINGS),
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
    info=technical("keys that sign what leaves", of=classes.SETTINGS),
)

# Reverse-paths of forwarded mail that are too long to be rewritten in themselves (SRS).
srs = Table(
    "srs",
    metadata,
    Column("token", Text, primary_key=True),
    Column("address", Text, nullable=False, info=personal("correspondent", "envelope sender of forwarded mail")),
    Column("expires", BigInteger, nullable=False),
    info=technical("where bounces of forwarded mail lead", of=classes.FORWARDED_SENDERS),
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
    info=technical("accounts whose sending is stopped", of=classes.STOPPED_SENDERS),
)

# Messages that the filter withheld, one row for each and its tenant, as long as somebody may still get it. Header and
# body lie in quarantine/, under two keys that both come from the tenant's.
quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", Text, primary_key=True),  # as a queue id: sorts by time
    # HMAC of content, sender and recipients under the tenant's key: what is sent again is kept once.
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("claims", Integer, nullable=False),  # transactions that rely on its being kept
    Column("received", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sender", Text, nullable=False, info=personal("correspondent", "envelope sender, for its administrators")),
    Column("author", Text, nullable=False, info=personal("correspondent", "From field, to find it by")),
    Column("subject", Text, nullable=False, info=personal("correspondent", "Subject field, to find it by")),
    Column("reason", Text, nullable=False),  # gateway.policy.verdict.Reason
    Column("score", Float, nullable=True),
    # JSON: envelope parameters and facts: what a release needs, and what explains it.
    Column("details", LargeBinary, nullable=False, info=personal("correspondent", "why it was withheld", sealed=True)),
    Column("file", Text, nullable=False, unique=True),  # base name of its two files, without their endings
    info=technical("withheld messages", of=classes.WITHHELD),
)
Index("quarantine_by_end", quarantine.c.expires)
Index("quarantine_by_reason", quarantine.c.reason, quarantine.c.size)  # what there is, counted without reading rows

quarantine_recipient = Table(
    "quarantine_recipient",
    metadata,
    Column("quarantine_id", Text, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("address", Text, nullable=False, info=personal("user", "recipient, as the envelope has it")),
    Column("address_key", Text, nullable=False, info=personal("user", "recipient, canonical")),
    Column("account_id", BigInteger, nullable=True),  # whose mailbox it would have gone to; None: it would have left
    # JSON: where it would have gone, and the parameters of RCPT.
    Column("destination", LargeBinary, nullable=False, info=personal("user", "where it goes if released", sealed=True)),
    Column("reason", Text, nullable=False),
    Column("sentence", Text, nullable=False),  # why, for people
    Column("counterfactual", Text, nullable=False),  # what would have let it pass
    Column("state", Text, nullable=False),  # storage.quarantine.values.HeldState
    Column("reported", BigInteger, nullable=True),  # when somebody said that it was wrongly withheld
    Column("changed", BigInteger, nullable=False),  # when it came to its state
    # A release that is under way, or was: so that it goes on after a crash, and delivers once.
    Column("release_id", Text, nullable=True),  # the queue id of what leaves
    Column("released_by", Text, nullable=True),  # recipient, administrator, review
    Column("releaser", Text, nullable=True),  # the incarnation at work
    info=technical("for whom messages are withheld", of=classes.WITHHELD),
)
Index("quarantine_by_account", quarantine_recipient.c.account_id, quarantine_recipient.c.quarantine_id)
Index("quarantine_by_address", quarantine_recipient.c.address_key, quarantine_recipient.c.quarantine_id)
Index("quarantine_by_state", quarantine_recipient.c.state, quarantine_recipient.c.quarantine_id)
Index("quarantine_by_report", quarantine_recipient.c.reported, quarantine_recipient.c.quarantine_id)

# Files of withheld messages whose rows are gone, until they are removed.
quarantine_unlink = Table(
    "quarantine_unlink",
    metadata,
    Column("file", Text, primary_key=True),
    info=technical("files that are to be removed", of=classes.TENANT_STATE),
)

# Rules of the filter that differ from the installation's; scope "" is the tenant, "domain:<name>", "account:<number>".
filter_setting = Table(
    "filter_setting",
    metadata,
    Column("scope", Text, primary_key=True, info=personal("customer", "whose rule it is")),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False, info=personal("customer", "a rule of the filter")),
    info=technical("rules of the filter", of=classes.SETTINGS),
)

# Senders that are let through or refused: an address, a domain ("@domain"), or a network.
filter_list = Table(
    "filter_list",
    metadata,
    Column("scope", Text, primary_key=True, info=personal("customer", "whose list it is")),
    Column("pattern", Text, primary_key=True, info=personal("correspondent", "whom the list names")),
    Column("kind", Text, nullable=False),  # allow, deny
    Column("unproven", Boolean, nullable=False),  # allow also what is not proven to come from there
    Column("created", BigInteger, nullable=False),
    info=technical("allow and deny lists", of=classes.SETTINGS),
    sqlite_with_rowid=False,
)

# Whom an account writes to: keyed hashes, since only "do we know this sender?" is ever asked.
correspondent = Table(
    "correspondent",
    metadata,
    Column("address_hash", LargeBinary, primary_key=True),  # HMAC of the address key under the tenant's key
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),  # Unix seconds of the last message to it, by the day
    info=technical("whom accounts write to", of=classes.EXPERIENCE),
    sqlite_with_rowid=False,
)
Index("correspondent_by_account", correspondent.c.account_id)
Index("correspondent_by_age", correspondent.c.last)

# What the tenant got from sender domains and networks: keyed hashes, with counts that fade.
reputation = Table(
    "reputation",
    metadata,
    Column("subject_hash", LargeBinary, primary_key=True),  # HMAC of "domain:…" or "network:…" under the tenant's key
    Column("ham", Float, nullable=False),
    Column("spam", Float, nullable=False),
    Column("last", BigInteger, nullable=False),
    info=technical("experience with senders", of=classes.EXPERIENCE),
    sqlite_with_rowid=False,
)
Index("reputation_by_age", reputation.c.last)

# What accounts taught the filter: a vector of weights each, and (account 0) their bounded sum, the tenant's.
correction = Table(
    "correction",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("lessons", BigInteger, nullable=False),  # that are in it
    # The lessons as they were taught, and what counts of them: without what the account's ordinary mail has in common.
    Column("taught", LargeBinary, nullable=False, info=personal("user", "learned from the account's choices")),
    Column("weights", LargeBinary, nullable=False, info=personal("user", "learned from the account's choices")),
    info=technical("what users taught the filter", of=classes.CORRECTIONS),
)

# The lessons that are in the corrections, so that each can be taken back.
lesson = Table(
    "lesson",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_hash", LargeBinary, primary_key=True),  # HMAC of the message under the tenant's key
    Column("spam", Boolean, nullable=False),
    Column("step", Float, nullable=False),  # what was added to each of its weights
    Column("spoke", LargeBinary, nullable=False),  # hashes of `reputation` where it counts, one after the other
    Column("learned", BigInteger, nullable=False),
    info=technical("lessons of the filter", of=classes.EXPERIENCE),
    sqlite_with_rowid=False,
)
Index("lesson_by_age", lesson.c.learned)

# What SCRAM compares (RFC 5802 §3): all credentials of an account share salt and rounds, so that a client may be told
# both before it says which of them it has.
scram_salt = Table(
    "scram_salt",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    info=technical("salt of an account's SCRAM keys", of=classes.ACCOUNTS),
)

scram_key = Table(
    "scram_key",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("app_password_id", BigInteger, primary_key=True, autoincrement=False),  # 0: the account's own password
    Column("rounds", Integer, primary_key=True, autoincrement=False),
    Column("way", Integer, primary_key=True, autoincrement=False),  # of writing it: with its hyphens, or without
    Column("stored_key", LargeBinary, nullable=False, info=personal("user", "verifier of a password")),
    Column("server_key", LargeBinary, nullable=False, info=personal("user", "proof of the server for a password")),
    info=technical("SCRAM-SHA-256 keys of credentials (RFC 7677)", of=classes.ACCOUNTS),
    sqlite_with_rowid=False,
)

# Who may do what with somebody else's mailbox; the mailbox lies in the database of its owner's account.
mailbox_right = Table(
    "mailbox_right",
    metadata,
    Column("owner_id", BigInteger, primary_key=True, autoincrement=False),  # account
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),  # never used again for another mailbox
    Column("identifier", BigInteger, primary_key=True, autoincrement=False),  # account; 0: anyone in the tenant
    Column("rights", Text, nullable=False),  # letters of RFC 4314 §2.1, in their order
    Column("changed", BigInteger, nullable=False),  # Unix seconds
    info=technical("access control lists of mailboxes (RFC 4314)", of=classes.SHARES),
    sqlite_with_rowid=False,
)
Index("mailbox_right_by_identifier", mailbox_right.c.identifier, mailbox_right.c.owner_id)

# Collections that their owner shares with other accounts of the tenant; they lie in the database of his account.
share = Table(
    "share",
    metadata,
    Column("owner_id", BigInteger, primary_key=True, autoincrement=False),  # account
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sharee_id", BigInteger, primary_key=True, autoincrement=False),  # account
    Column("kind", Text, nullable=False),  # calendar or address_book
    Column("may_write", Boolean, nullable=False),
    Column("state", Text, nullable=False),  # invited, accepted, declined
    Column("name", Text, nullable=False),  # last segment of its path in the sharee's home
    Column("display_name", Text, nullable=False, info=personal("user", "as the sharee calls it; empty: as its owner")),
    Column("summary", Text, nullable=False, info=personal("user", "what the invitation says")),
    Column("color", Text, nullable=False),  # the sharee's; empty: the owner's
    Column("transparent", Boolean, nullable=False),  # the sharee's
    Column("invited", BigInteger, nullable=False),  # Unix seconds
    Column("answered", BigInteger, nullable=True),
    Column("told_sharee", Boolean, nullable=False),  # no notice of the invitation stands in his notifications
    Column("told_owner", Boolean, nullable=False),  # likewise of the answer
    info=technical("collections shared inside the tenant", of=classes.SHARES),
    sqlite_with_rowid=False,
)
Index("share_by_sharee", share.c.sharee_id, share.c.kind, share.c.name)
