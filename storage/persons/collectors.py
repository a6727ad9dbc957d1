"""What is stored about a person, class by class of the data register.

A collector gives items one after another, each with the register's name of where it stands. A class with persons in it
has a collector here, or a reason why it cannot be searched by an address (a test demands one of the two). Nothing that
an order keeps secret is told, nor that there is something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from storage.persons import of_collections, of_control, of_customers, of_records
from storage.persons.item import Item
from storage.persons.sought import Sought
from storage.register import classes
from storage.register.values import DataClass

Collector = Callable[[Sought], Iterator[Item]]

COLLECTORS: Mapping[DataClass, Collector] = {
    classes.MAIL: of_customers.mail,
    classes.COLLECTIONS: of_collections.collections,
    classes.SCHEDULING: of_collections.scheduling,
    classes.SHARES: of_collections.shares,
    classes.MOVING: of_customers.moving_in,
    classes.ACCOUNTS: of_customers.accounts,
    classes.SETTINGS: of_customers.settings,
    classes.STOPPED_SENDERS: of_customers.stopped,
    classes.FORWARDED_SENDERS: of_customers.forwarded,
    classes.WITHHELD: of_customers.withheld,
    classes.EXPERIENCE: of_customers.experience,
    classes.CORRECTIONS: of_customers.corrections,
    classes.DIRECTORY: of_control.directory,
    classes.QUEUE: of_records.queue,
    classes.SENDING: of_records.sending,
    classes.ACCESS_EVENTS: of_records.access,
    classes.TRANSCRIPTS: of_records.transcripts,
    classes.TRACES: of_records.traces,
    classes.AUDIT: of_records.audit_records,
    classes.CONTRACTS: of_control.contracts,
    classes.ERASURES: of_control.erasures,
    classes.HOLDS: of_control.holds,
    classes.DISCLOSURES: of_control.disclosures,
    classes.APPROVALS: of_control.approvals,
    classes.AGREEMENTS: of_control.agreements,
    classes.STAFF: of_control.staff,
}

# Classes with persons that no address finds anything in: why.
NOT_SEARCHED: Mapping[DataClass, str] = {
    classes.SEARCH_INDEX: "It holds parts of words of the mailbox's own messages, and nothing that is not in these.",
    classes.OPINIONS: "It holds numbers of messages, for minutes, and no address.",
    classes.OTHER_SERVERS: "It holds names of mail servers and domains, and no address of a person.",
    classes.STRANGERS: "It holds keyed hashes of a network, a sender and a recipient together, for weeks at most;"
    " from an address alone none of them can be told.",
    classes.REVIEWS: "It holds numbers of withheld messages, which are told as withheld mail, and who decided.",
    classes.ERASURE_SEARCH: "It is sealed under a key that no person is given, and ends with the erasure.",
    classes.BACKUPS: "They hold what is told here as it was at another time, encrypted, and are read to restore alone.",
    classes.STAFF_SESSIONS: "It holds hashes of tokens for hours; the person's record says who works here.",
}
