"""What can be done here, who may do it by his role, and which action each command is: three tables.

A new command gets a line in `COMMANDS`; until it has one it is an operator's.
"""

from __future__ import annotations

from enum import StrEnum

from hosting.access.roles import StaffRole


class Action(StrEnum):
    OWN_SESSION = "own_session"  # sign in and out
    OFFLINE = "offline"  # needs nothing of an installation
    MACHINE = "machine"  # run the installation: root and the server's own user may always
    OPERATE = "operate"  # whatever has no action of its own

    TENANT_SEE = "tenant_see"
    TENANT_CHANGE = "tenant_change"
    TENANT_SETTINGS = "tenant_settings"
    TENANT_END = "tenant_end"
    ENDING_SEE = "ending_see"
    DOMAIN_SEE = "domain_see"
    DOMAIN_CHANGE = "domain_change"  # vouch for them, route them, their keys
    ACCOUNT_SEE = "account_see"
    ACCOUNT_CHANGE = "account_change"
    ACCOUNT_FREEZE = "account_freeze"
    ACCOUNT_CREDENTIALS = "account_credentials"
    ACCOUNT_SETTINGS = "account_settings"
    ACCOUNT_END = "account_end"
    ALIAS_CHANGE = "alias_change"
    MAIL_IN = "mail_in"  # import, migrate
    MAIL_OUT = "mail_out"  # export
    MESSAGE_READ = "message_read"  # the content of one, after two persons agreed

    QUEUE_SEE = "queue_see"
    QUEUE_CHANGE = "queue_change"
    QUARANTINE_SEE = "quarantine_see"
    QUARANTINE_CHANGE = "quarantine_change"
    WITHHELD_TEXTS = "withheld_texts"  # subjects and header lines of others' withheld mail
    REVIEW = "review"
    FILTER_SEE = "filter_see"
    FILTER_CHANGE = "filter_change"
    FILTER_EXPLAIN = "filter_explain"
    FILTER_MODEL = "filter_model"

    TRACE_SEE = "trace_see"
    ACCESS_SEE = "access_see"
    AUDIT_SEE = "audit_see"
    JOURNAL_SEE = "journal_see"  # what others did to one's own data
    TRANSCRIPTS_READ = "transcripts_read"

    AGREEMENT_SEE = "agreement_see"
    AGREEMENT_CHANGE = "agreement_change"
    STAFF_SEE = "staff_see"
    STAFF_CHANGE = "staff_change"
    REQUEST_ASK = "request_ask"
    REQUEST_SEE = "request_see"
    REQUEST_DECIDE = "request_decide"

    CONTRACT_SEE = "contract_see"
    CONTRACT_CHANGE = "contract_change"
    HOLD_SEE = "hold_see"
    HOLD_CHANGE = "hold_change"
    CERTIFICATE_SEE = "certificate_see"
    PRIVACY_SEE = "privacy_see"
    RETENTION_SEE = "retention_see"
    RETENTION_RUN = "retention_run"
    PERSON_SEE = "person_see"
    PERSON_CHANGE = "person_change"
    DISCLOSURE_SEE = "disclosure_see"
    DISCLOSURE_CHANGE = "disclosure_change"
    BACKUP = "backup"
    RESTORE = "restore"
    KEYS_SEE = "keys_see"
    KEYS_CHANGE = "keys_change"


# For everybody, whoever he is.
FOR_EVERYBODY = frozenset({Action.OWN_SESSION, Action.OFFLINE})

_O, _S, _R, _A, _B, _T, _U = StaffRole

# Who may do it, by need-to-know. A tenant's administrator and a user may do it to what is theirs.
ROLES: dict[Action, frozenset[StaffRole]] = {
    Action.OWN_SESSION: frozenset(StaffRole),
    Action.OFFLINE: frozenset(StaffRole),
    Action.MACHINE: frozenset({_O}),
    Action.OPERATE: frozenset({_O}),
    Action.TENANT_SEE: frozenset({_O, _S, _B, _T}),
    Action.TENANT_CHANGE: frozenset({_O}),
    Action.TENANT_SETTINGS: frozenset({_O, _T}),
    Action.TENANT_END: frozenset({_O}),
    Action.ENDING_SEE: frozenset({_O, _S, _A, _B}),
    Action.DOMAIN_SEE: frozenset({_O, _S, _T}),
    Action.DOMAIN_CHANGE: frozenset({_O}),
    Action.ACCOUNT_SEE: frozenset({_O, _S, _T, _U}),
    Action.ACCOUNT_CHANGE: frozenset({_O, _T}),
    Action.ACCOUNT_FREEZE: frozenset({_O, _S, _T}),
    Action.ACCOUNT_CREDENTIALS: frozenset({_O, _T, _U}),
    Action.ACCOUNT_SETTINGS: frozenset({_O, _T, _U}),
    Action.ACCOUNT_END: frozenset({_O, _T}),
    Action.ALIAS_CHANGE: frozenset({_O, _T}),
    Action.MAIL_IN: frozenset({_O, _T, _U}),
    Action.MAIL_OUT: frozenset({_O, _T, _U}),
    Action.MESSAGE_READ: frozenset({_O, _S}),
    Action.QUEUE_SEE: frozenset({_O, _S}),
    Action.QUEUE_CHANGE: frozenset({_O}),
    Action.QUARANTINE_SEE: frozenset({_O, _S, _T, _U}),
    Action.QUARANTINE_CHANGE: frozenset({_O, _T, _U}),
    Action.WITHHELD_TEXTS: frozenset({_R, _T, _U}),
    Action.REVIEW: frozenset({_R}),
    Action.FILTER_SEE: frozenset({_O, _S, _T, _U}),
    Action.FILTER_CHANGE: frozenset({_O, _T, _U}),
    Action.FILTER_EXPLAIN: frozenset({_O, _S}),
    Action.FILTER_MODEL: frozenset({_O}),
    Action.TRACE_SEE: frozenset({_O, _S}),
    Action.ACCESS_SEE: frozenset({_O, _S, _A}),
    Action.AUDIT_SEE: frozenset({_O, _A}),
    Action.JOURNAL_SEE: frozenset({_O, _A, _T, _U}),
    Action.TRANSCRIPTS_READ: frozenset({_A}),
    Action.AGREEMENT_SEE: frozenset({_O, _A}),
    Action.AGREEMENT_CHANGE: frozenset({_O}),
    Action.STAFF_SEE: frozenset({_O, _A}),
    Action.STAFF_CHANGE: frozenset({_O}),
    Action.REQUEST_ASK: frozenset({_O, _S}),
    Action.REQUEST_SEE: frozenset({_O, _S, _A}),
    Action.REQUEST_DECIDE: frozenset({_O, _A}),
    Action.CONTRACT_SEE: frozenset({_O, _S, _B, _T}),
    Action.CONTRACT_CHANGE: frozenset({_O, _B}),
    Action.HOLD_SEE: frozenset({_O, _A}),
    Action.HOLD_CHANGE: frozenset({_O}),
    Action.CERTIFICATE_SEE: frozenset({_O, _A, _B}),
    Action.PRIVACY_SEE: frozenset({_O, _S, _R, _A, _B}),
    Action.RETENTION_SEE: frozenset({_O, _A}),
    Action.RETENTION_RUN: frozenset({_O}),
    Action.PERSON_SEE: frozenset({_O, _T}),
    Action.PERSON_CHANGE: frozenset({_O}),
    Action.DISCLOSURE_SEE: frozenset({_O, _A}),
    Action.DISCLOSURE_CHANGE: frozenset({_O}),
    Action.BACKUP: frozenset({_O}),
    Action.RESTORE: frozenset({_O}),
    Action.KEYS_SEE: frozenset({_O}),
    Action.KEYS_CHANGE: frozenset({_O}),
}

# Each command of `cleanmail`. A test compares this with the program.
COMMANDS: dict[str, Action] = {
    "init": Action.MACHINE,
    "serve": Action.MACHINE,
    "backup to": Action.BACKUP,
    "backup list": Action.BACKUP,
    "backup verify": Action.BACKUP,
    "restore": Action.RESTORE,
    "check": Action.MACHINE,
    "upgrade": Action.MACHINE,
    "keys status": Action.KEYS_SEE,
    "keys backups": Action.KEYS_SEE,
    "keys saved": Action.KEYS_CHANGE,
    "keys rotate": Action.KEYS_CHANGE,
    "keys backup": Action.KEYS_CHANGE,
    "keys restore": Action.MACHINE,  # nothing can be asked for while there are no keys
    "tenant create": Action.TENANT_CHANGE,
    "tenant list": Action.TENANT_SEE,
    "tenant show": Action.TENANT_SEE,
    "tenant suspend": Action.TENANT_CHANGE,
    "tenant resume": Action.TENANT_CHANGE,
    "tenant end": Action.TENANT_END,
    "tenant mail": Action.TENANT_SETTINGS,
    "tenant sending": Action.TENANT_CHANGE,
    "domain add": Action.DOMAIN_CHANGE,
    "domain verify": Action.DOMAIN_CHANGE,
    "domain list": Action.DOMAIN_SEE,
    "route set": Action.DOMAIN_CHANGE,
    "route show": Action.DOMAIN_SEE,
    "route list": Action.DOMAIN_SEE,
    "route remove": Action.DOMAIN_CHANGE,
    "dkim create": Action.DOMAIN_CHANGE,
    "dkim rotate": Action.DOMAIN_CHANGE,
    "dkim list": Action.DOMAIN_SEE,
    "dkim activate": Action.DOMAIN_CHANGE,
    "dkim retire": Action.DOMAIN_CHANGE,
    "dns records": Action.DOMAIN_SEE,
    "dns check": Action.DOMAIN_SEE,
    "account create": Action.ACCOUNT_CHANGE,
    "account passwd": Action.ACCOUNT_CREDENTIALS,
    "account quota": Action.ACCOUNT_CHANGE,
    "account list": Action.ACCOUNT_SEE,
    "account show": Action.ACCOUNT_SEE,
    "account suspend": Action.ACCOUNT_CHANGE,
    "account resume": Action.ACCOUNT_CHANGE,
    "account freeze": Action.ACCOUNT_FREEZE,
    "account unfreeze": Action.ACCOUNT_FREEZE,
    "account catch-all-sender": Action.ACCOUNT_CHANGE,
    "account delete": Action.ACCOUNT_END,
    "alias add": Action.ALIAS_CHANGE,
    "alias remove": Action.ALIAS_CHANGE,
    "alias list": Action.ACCOUNT_SEE,
    "app-password create": Action.ACCOUNT_CREDENTIALS,
    "app-password revoke": Action.ACCOUNT_CREDENTIALS,
    "app-password list": Action.ACCOUNT_SEE,
    "contract show": Action.CONTRACT_SEE,
    "contract list": Action.CONTRACT_SEE,
    "contract set": Action.CONTRACT_CHANGE,
    "contract end": Action.CONTRACT_CHANGE,
    "contract remind": Action.CONTRACT_CHANGE,
    "hold add": Action.HOLD_CHANGE,
    "hold list": Action.HOLD_SEE,
    "hold lift": Action.HOLD_CHANGE,
    "ending list": Action.ENDING_SEE,
    "ending show": Action.ENDING_SEE,
    "ending resume": Action.TENANT_END,
    "certificate list": Action.CERTIFICATE_SEE,
    "certificate show": Action.CERTIFICATE_SEE,
    "certificate export": Action.CERTIFICATE_SEE,
    "certificate verify": Action.OFFLINE,
    "certificate key": Action.OFFLINE,  # it is published
    "import": Action.MAIL_IN,
    "migrate": Action.MAIL_IN,
    "export archive": Action.MAIL_OUT,
    "export collection": Action.MAIL_OUT,
    "export verify": Action.OFFLINE,
    "export key": Action.OFFLINE,  # it is published
    "imap capabilities": Action.OFFLINE,
    "queue list": Action.QUEUE_SEE,
    "queue show": Action.QUEUE_SEE,
    "queue hold": Action.QUEUE_CHANGE,
    "queue release": Action.QUEUE_CHANGE,
    "queue retry": Action.QUEUE_CHANGE,
    "queue drop": Action.QUEUE_CHANGE,
    "queue destinations": Action.QUEUE_SEE,
    "quarantine list": Action.QUARANTINE_SEE,
    "quarantine search": Action.QUARANTINE_SEE,
    "quarantine show": Action.QUARANTINE_SEE,
    "quarantine release": Action.QUARANTINE_CHANGE,
    "quarantine delete": Action.QUARANTINE_CHANGE,
    "quarantine report": Action.QUARANTINE_CHANGE,
    "quarantine summary": Action.QUARANTINE_SEE,
    "filter train": Action.FILTER_MODEL,
    "filter evaluate": Action.OFFLINE,
    "filter export": Action.FILTER_MODEL,
    "filter import": Action.FILTER_MODEL,
    "filter status": Action.FILTER_MODEL,
    "filter report": Action.FILTER_EXPLAIN,
    "filter explain": Action.FILTER_EXPLAIN,
    "filter policy show": Action.FILTER_SEE,
    "filter policy set": Action.FILTER_CHANGE,
    "filter policy unset": Action.FILTER_CHANGE,
    "filter allow add": Action.FILTER_CHANGE,
    "filter allow remove": Action.FILTER_CHANGE,
    "filter allow list": Action.FILTER_SEE,
    "filter deny add": Action.FILTER_CHANGE,
    "filter deny remove": Action.FILTER_CHANGE,
    "filter deny list": Action.FILTER_SEE,
    "trace": Action.TRACE_SEE,
    "log transcripts": Action.TRANSCRIPTS_READ,
    "log access": Action.ACCESS_SEE,
    "log audit": Action.AUDIT_SEE,
    "audit list": Action.AUDIT_SEE,
    "audit show": Action.AUDIT_SEE,
    "audit verify": Action.AUDIT_SEE,
    "audit anchor": Action.AUDIT_SEE,
    "audit mine": Action.JOURNAL_SEE,
    "disclosure record": Action.DISCLOSURE_CHANGE,
    "disclosure list": Action.DISCLOSURE_SEE,
    "disclosure show": Action.DISCLOSURE_SEE,
    "disclosure challenge": Action.DISCLOSURE_CHANGE,
    "disclosure resume": Action.DISCLOSURE_CHANGE,
    "disclosure refuse": Action.DISCLOSURE_CHANGE,
    "disclosure extract": Action.DISCLOSURE_CHANGE,
    "disclosure report": Action.DISCLOSURE_SEE,
    "review list": Action.REVIEW,
    "review show": Action.REVIEW,
    "review decide": Action.REVIEW,
    "review agreement record": Action.AGREEMENT_CHANGE,
    "review agreement end": Action.AGREEMENT_CHANGE,
    "review agreement list": Action.AGREEMENT_SEE,
    "privacy statement": Action.PRIVACY_SEE,
    "privacy records": Action.PRIVACY_SEE,
    "privacy register": Action.PRIVACY_SEE,
    "retention run": Action.RETENTION_RUN,
    "retention status": Action.RETENTION_SEE,
    "retention receipts": Action.RETENTION_SEE,
    "retention periods": Action.RETENTION_SEE,
    "clock show": Action.RETENTION_SEE,
    "clock confirm": Action.RETENTION_RUN,
    "account folders": Action.ACCOUNT_SETTINGS,
    "account calendar": Action.ACCOUNT_SETTINGS,
    "acl list": Action.ACCOUNT_SETTINGS,
    "acl set": Action.ACCOUNT_SETTINGS,
    "acl remove": Action.ACCOUNT_SETTINGS,
    "collection list": Action.ACCOUNT_SETTINGS,
    "collection share": Action.ACCOUNT_SETTINGS,
    "collection unshare": Action.ACCOUNT_SETTINGS,
    "collection shares": Action.ACCOUNT_SETTINGS,
    "collection link": Action.ACCOUNT_SETTINGS,
    "collection links": Action.ACCOUNT_SETTINGS,
    "collection unlink": Action.ACCOUNT_SETTINGS,
    "collection subscribe": Action.ACCOUNT_SETTINGS,
    "collection unsubscribe": Action.ACCOUNT_SETTINGS,
    "collection birthdays": Action.ACCOUNT_SETTINGS,
    "person report": Action.PERSON_SEE,
    "person requests": Action.PERSON_SEE,
    "person verify": Action.OFFLINE,
    "person correct": Action.ACCOUNT_CHANGE,
    "person erase": Action.PERSON_CHANGE,
    "message show": Action.MESSAGE_READ,
    "request ask": Action.REQUEST_ASK,
    "request list": Action.REQUEST_SEE,
    "request show": Action.REQUEST_SEE,
    "request approve": Action.REQUEST_DECIDE,
    "request refuse": Action.REQUEST_DECIDE,
    "request withdraw": Action.REQUEST_ASK,
    "staff add": Action.STAFF_CHANGE,
    "staff list": Action.STAFF_SEE,
    "staff show": Action.STAFF_SEE,
    "staff roles": Action.STAFF_CHANGE,
    "staff password": Action.STAFF_CHANGE,
    "staff reset-totp": Action.STAFF_CHANGE,
    "staff end": Action.STAFF_CHANGE,
    "sign-in": Action.OWN_SESSION,
    "sign-out": Action.OWN_SESSION,
    "whoami": Action.OWN_SESSION,
}

# They read or write files that are named on the line with the rights of the server, or need keys of the whole
# installation: nothing for administrators of customers, whose actions these are elsewhere.
OF_PROVIDERS = frozenset({"import", "export archive", "export collection", "migrate", "account delete"})


def action_of(command: str) -> Action:
    """Of a command by its path ("tenant create")."""
    return COMMANDS.get(command, Action.OPERATE)
