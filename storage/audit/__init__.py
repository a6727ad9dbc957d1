"""What administrators did and what they read of others: a chain of records that cannot be changed unseen, audit.db.

chain.py appends, reads and verifies; records.py has what a record is and how it is sealed; checkpoints.py has what is
signed of the chain, and what is kept elsewhere to find by it that something was cut off or replaced.
"""

from storage.audit.chain import FILES, PURPOSE, SCHEMA, Audit
from storage.audit.checkpoints import Checkpoint, Origin, read_anchor, write_anchor
from storage.audit.records import AuditRecord, Entry, Head, Verified

__all__ = [
    "FILES",
    "PURPOSE",
    "SCHEMA",
    "Audit",
    "AuditRecord",
    "Checkpoint",
    "Entry",
    "Head",
    "Origin",
    "Verified",
    "read_anchor",
    "write_anchor",
]
