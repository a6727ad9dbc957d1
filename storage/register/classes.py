"""Every kind of data that is stored here, on one page: whose, what for, on which ground, for how long, who reads it.

Titles and purposes are published as they stand here (`cleanmail privacy statement`). Who adds a table, a log or a
file names one of these where it is defined, or adds a class here.
"""

from __future__ import annotations

from storage.register.values import Basis, DataClass, Erasure, Kept, Reader, Whose

_USER = frozenset({Whose.USER})
_CORRESPONDENT = frozenset({Whose.CORRESPONDENT})
_BOTH = _USER | _CORRESPONDENT
_CUSTOMER = frozenset({Whose.CUSTOMER})
_STAFF = frozenset({Whose.STAFF})
_NOBODY = frozenset({Whose.NOBODY})

_PROGRAMS = frozenset({Reader.PROGRAMS})
_OWNER = frozenset({Reader.OWNER})
_TENANT = frozenset({Reader.TENANT_ADMINISTRATOR})
_OPERATOR = frozenset({Reader.OPERATOR})
_HELP = _OPERATOR | {Reader.SUPPORT}
_AUDITOR = frozenset({Reader.AUDITOR})

# What users store

MAIL = DataClass(
    "mail",
    "Messages, folders and flags",
    _BOTH,
    "keeping the mail of its owner",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _OWNER,
    sealed=True,
)
SEARCH_INDEX = DataClass(
    "search_index",
    "The search index of messages",
    _BOTH,
    "finding messages by their words",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _OWNER,
    sealed=True,
)
MOVING = DataClass(
    "moving",
    "Which folders and messages have moved in from another provider",
    _USER,
    "going on with a move without duplicates",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _OWNER,
    sealed=True,
)
COLLECTIONS = DataClass(
    "collections",
    "Calendars, tasks, notes, contacts and files",
    _BOTH,
    "keeping them for their owner",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _OWNER,
    sealed=True,
)
SCHEDULING = DataClass(
    "scheduling",
    "Invitations and answers under way, and which ones were worked on",
    _BOTH,
    "bringing invitations to those invited, once",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _PROGRAMS,
    sealed=True,
)
OPINIONS = DataClass(
    "opinions",
    "Which messages their owner called spam, or not",
    _BOTH,
    "teaching the filter what its owner wants",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _PROGRAMS,
    sealed=True,
)
ACCOUNT_STATE = DataClass(
    "account_state",
    "Counters and work lists of a mailbox",
    _NOBODY,
    "keeping the mailbox's database whole",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ACCOUNT_KEY,
    _PROGRAMS,
    sealed=True,
)

# What a customer has here

ACCOUNTS = DataClass(
    "accounts",
    "Accounts, addresses, aliases and passwords' hashes",
    _BOTH,
    "signing in, and leading mail to its mailbox",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ROW,
    _OWNER | _TENANT | _HELP,
    sealed=True,
)
SETTINGS = DataClass(
    "settings",
    "Settings, mail domains' routes and signing keys, rules and lists of the filter",
    _CUSTOMER | _CORRESPONDENT,
    "handling mail as the customer wants it",
    Basis.CONTRACT,
    Kept.CONTRACT,
    Erasure.TENANT_KEY,
    _TENANT | _HELP,
    sealed=True,
)
SHARES = DataClass(
    "shares",
    "Which mailboxes, calendars and address books are shared with whom, and which have a public link",
    _USER,
    "letting those see them whom their owner chose",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ROW,
    _OWNER | _TENANT | _HELP,
    sealed=True,
)
STOPPED_SENDERS = DataClass(
    "stopped_senders",
    "Accounts whose sending is stopped",
    _USER,
    "keeping an account that was taken over from sending spam",
    Basis.INTEREST,
    Kept.ACCOUNT,
    Erasure.ROW,
    _TENANT | _HELP,
    sealed=True,
)
FORWARDED_SENDERS = DataClass(
    "forwarded_senders",
    "Senders of forwarded mail",
    _CORRESPONDENT,
    "leading bounces of forwarded mail back to its sender",
    Basis.CONTRACT,
    Kept.FORWARDING,
    Erasure.ROW,
    _PROGRAMS,
    sealed=True,
)
WITHHELD = DataClass(
    "withheld",
    "Messages that the filter withheld",
    _BOTH,
    "letting recipients have what was wrongly withheld",
    Basis.CONTRACT,
    Kept.QUARANTINE,
    Erasure.ROW,
    _OWNER | _TENANT | _HELP | {Reader.REVIEWER},
    sealed=True,
    shown="of other persons' messages never the content; operators and support the envelope only",
)
EXPERIENCE = DataClass(
    "experience",
    "Keyed hashes of whom accounts write to and of senders, and lessons that users taught the filter",
    _BOTH,
    "telling wanted mail from unwanted",
    Basis.INTEREST,
    Kept.EXPERIENCE,
    Erasure.ROW,
    _PROGRAMS,
    sealed=True,
)
CORRECTIONS = DataClass(
    "corrections",
    "What an account's lessons add up to: weights of words, without the words",
    _USER,
    "telling wanted mail from unwanted as its user sees it",
    Basis.CONTRACT,
    Kept.ACCOUNT,
    Erasure.ROW,
    _PROGRAMS,
    sealed=True,
)
TENANT_STATE = DataClass(
    "tenant_state",
    "Counters and work lists of a customer's database",
    _NOBODY,
    "keeping the database whole",
    Basis.CONTRACT,
    Kept.CONTRACT,
    Erasure.TENANT_KEY,
    _PROGRAMS,
    sealed=True,
)
DIRECTORY = DataClass(
    "directory",
    "Customers, their mail domains, and keyed hashes of sign-in names",
    _CUSTOMER | _USER,
    "knowing whose a domain and a sign-in name is",
    Basis.CONTRACT,
    Kept.CONTRACT,
    Erasure.ROW,
    _TENANT | _HELP | {Reader.BILLING},
    sealed=True,
)

# Mail on its way

QUEUE = DataClass(
    "queue",
    "Accepted messages that wait to be delivered",
    _BOTH,
    "delivering them",
    Basis.CONTRACT,
    Kept.QUEUE,
    Erasure.ROW,
    _HELP,
    sealed=True,
    shown="the envelope, never the content",
)
SENDING = DataClass(
    "sending",
    "How much each account sent, and how encryption with other servers went",
    _USER | _CORRESPONDENT,
    "limits against abuse, and reports on encryption",
    Basis.INTEREST,
    Kept.SENDING,
    Erasure.ROW,
    _HELP,
    sealed=False,
)
OTHER_SERVERS = DataClass(
    "other_servers",
    "Which mail servers don't answer, and what they publish about encryption",
    _CORRESPONDENT,
    "sending at the right time and encrypted",
    Basis.INTEREST,
    Kept.EXPERIENCE,
    Erasure.ROW,
    _OPERATOR,
    sealed=False,
)
STRANGERS = DataClass(
    "strangers",
    "Keyed hashes of senders that were asked to come again",
    _CORRESPONDENT,
    "putting off machines that send spam",
    Basis.INTEREST,
    Kept.WORK,
    Erasure.FILE,
    _PROGRAMS,
    sealed=False,
)

# Records

ACCESS_EVENTS = DataClass(
    "access_events",
    "Access events: time, type and result of what was done with an account, and from which network address",
    _USER,
    "finding out who used an account",
    Basis.INTEREST,
    Kept.ACCESS,
    Erasure.SEGMENT_KEY,
    _OWNER | _TENANT | _HELP | _AUDITOR,
    sealed=True,
)
TRANSCRIPTS = DataClass(
    "transcripts",
    "Transcripts of the dialogues between mail servers, without content",
    _BOTH,
    "reconstructing sender, recipient and time of a message",
    Basis.INTEREST,
    Kept.TRANSCRIPTS,
    Erasure.SEGMENT_KEY,
    _AUDITOR,
    sealed=True,
)
TRACES = DataClass(
    "traces",
    "Traces: what became of each message",
    _BOTH,
    "answering where a message is",
    Basis.CONTRACT,
    Kept.TRACES,
    Erasure.SEGMENT_KEY,
    _TENANT | _HELP,
    sealed=True,
)
VERDICT_COUNTS = DataClass(
    "verdict_counts",
    "How many messages the filter judged how, by day and customer",
    _NOBODY,
    "measuring how often the filter is wrong",
    Basis.INTEREST,
    Kept.COUNTS,
    Erasure.ROW,
    _HELP,
    sealed=False,
)
REVIEWS = DataClass(
    "reviews",
    "Which withheld messages were reviewed, by whom, and what was found",
    _STAFF,
    "finding and correcting mistakes of the filter",
    Basis.INTEREST,
    Kept.REVIEWS,
    Erasure.ROW,
    _OPERATOR | {Reader.REVIEWER},
    sealed=False,
)
AUDIT = DataClass(
    "audit",
    "The audit chain: what administrators did and what they read",
    _STAFF | _USER,
    "proving who did what",
    Basis.LAW,
    Kept.AUDIT,
    Erasure.CHAIN,
    _OWNER | _OPERATOR | _AUDITOR,
    sealed=True,
)
RECEIPTS = DataClass(
    "receipts",
    "Receipts of what was removed by time, without persons",
    _NOBODY,
    "proving that periods are kept",
    Basis.LAW,
    Kept.COUNTS,
    Erasure.ROW,
    _OPERATOR | _AUDITOR,
    sealed=False,
)

# The provider's business

CONTRACTS = DataClass(
    "contracts",
    "Contracts: limits, begin, end, and whom to tell of the end",
    _CUSTOMER | _STAFF,
    "keeping what was agreed",
    Basis.CONTRACT,
    Kept.BUSINESS,
    Erasure.ROW,
    _TENANT | _HELP | {Reader.BILLING},
    sealed=True,
)
ERASURES = DataClass(
    "erasures",
    "Erasures and their certificates",
    _CUSTOMER | _STAFF,
    "proving what was erased and when",
    Basis.LAW,
    Kept.BUSINESS,
    Erasure.ROW,
    _OPERATOR | _AUDITOR | {Reader.BILLING},
    sealed=False,
)
ERASURE_SEARCH = DataClass(
    "erasure_search",
    "What is searched for after an erasure, while it is under way",
    _USER | _CUSTOMER,
    "showing that nothing is left",
    Basis.LAW,
    Kept.WORK,
    Erasure.FILE,
    _PROGRAMS,
    sealed=True,
)
HOLDS = DataClass(
    "holds",
    "Legal holds: what must not be removed, why and until when",
    _USER | _STAFF,
    "keeping evidence that a law or a court demands",
    Basis.LAW,
    Kept.BUSINESS,
    Erasure.ROW,
    _OPERATOR | _AUDITOR,
    sealed=True,
)
DISCLOSURES = DataClass(
    "disclosures",
    "Disclosures to authorities: on which ground, in which scope",
    _USER | _STAFF,
    "proving that no more was disclosed than the law demands",
    Basis.LAW,
    Kept.BUSINESS,
    Erasure.ROW,
    _OPERATOR | _AUDITOR,
    sealed=True,
)
APPROVALS = DataClass(
    "approvals",
    "What was asked for that needs two persons, and who approved it",
    _USER | _STAFF,
    "letting nobody do alone what needs two",
    Basis.LAW,
    Kept.BUSINESS,
    Erasure.ROW,
    _HELP | _AUDITOR,
    sealed=True,
)
AGREEMENTS = DataClass(
    "agreements",
    "Secrecy agreements of those who review withheld mail",
    _STAFF,
    "showing header lines to those only who promised secrecy",
    Basis.LAW,
    Kept.BUSINESS,
    Erasure.ROW,
    _OPERATOR | _AUDITOR,
    sealed=False,
)
STAFF = DataClass(
    "staff",
    "People of the provider and administrators of customers: names, roles, hashes of passwords",
    _STAFF | _CUSTOMER,
    "letting people do what their role allows",
    Basis.CONTRACT,
    Kept.STAFF,
    Erasure.ROW,
    _OPERATOR | _AUDITOR,
    sealed=False,
)
STAFF_SESSIONS = DataClass(
    "staff_sessions",
    "Who of these people is signed in",
    _STAFF | _CUSTOMER,
    "not asking for a password at each command",
    Basis.CONTRACT,
    Kept.WORK,
    Erasure.ROW,
    _PROGRAMS,
    sealed=False,
)

# The installation

BACKUPS = DataClass(
    "backups",
    "Backups: copies of all this, encrypted as it is here, and when and where they were made",
    frozenset(Whose) - _NOBODY,
    "restoring what was lost",
    Basis.CONTRACT,
    Kept.BACKUPS,
    Erasure.FILE,
    _OPERATOR,
    sealed=False,
    shown="when and where; the content is read by the program that restores",
)
KEY_BACKUPS = DataClass(
    "key_backups",
    "Copies of keys: when and where they were made",
    _NOBODY,
    "opening backups again after a loss, and knowing until when a destroyed key could exist",
    Basis.CONTRACT,
    Kept.KEY_BACKUPS,
    Erasure.ROW,
    _OPERATOR,
    sealed=False,
)
KEYS = DataClass(
    "keys",
    "Wrapped keys of customers, accounts and records",
    _NOBODY,
    "opening what they sealed, until they are destroyed",
    Basis.CONTRACT,
    Kept.CONTRACT,
    Erasure.FILE,
    _PROGRAMS,
    sealed=True,
)
INSTALLATION = DataClass(
    "installation",
    "State of the installation itself: its configuration, certificates, counters, locks and the filter's shared model",
    _NOBODY,
    "running the server",
    Basis.CONTRACT,
    Kept.INSTALLATION,
    Erasure.NEVER,
    _OPERATOR,
    sealed=False,
)

# How the register is told to people: every class stands in one group (a test demands it).
GROUPS: tuple[tuple[str, tuple[DataClass, ...]], ...] = (
    ("What users store", (MAIL, COLLECTIONS, SCHEDULING, SEARCH_INDEX, OPINIONS, MOVING, ACCOUNT_STATE)),
    (
        "Customers, their users and their settings",
        (
            DIRECTORY,
            ACCOUNTS,
            SETTINGS,
            SHARES,
            STOPPED_SENDERS,
            CORRECTIONS,
            EXPERIENCE,
            TENANT_STATE,
        ),
    ),
    ("Mail on its way", (QUEUE, WITHHELD, FORWARDED_SENDERS, SENDING, OTHER_SERVERS, STRANGERS)),
    (
        "Records of what happened",
        (ACCESS_EVENTS, TRANSCRIPTS, TRACES, REVIEWS, VERDICT_COUNTS, AUDIT, RECEIPTS),
    ),
    (
        "Contracts, erasures and cases",
        (CONTRACTS, ERASURES, ERASURE_SEARCH, HOLDS, DISCLOSURES, APPROVALS),
    ),
    ("People who work for the provider", (STAFF, STAFF_SESSIONS, AGREEMENTS)),
    ("The installation", (KEYS, BACKUPS, KEY_BACKUPS, INSTALLATION)),
)
