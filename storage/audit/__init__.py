"""What administrators did and what they read of others: a chain of records that cannot be changed unseen, audit.db.

chain.py appends, reads and verifies; checkpoints.py has what is signed of it, and what is kept elsewhere to find by it
that something was cut off or replaced.
"""

from storage.audit.chain import FILES, PURPOSE, SCHEMA, Audit, AuditRecord, Entry, Head, Verified
from storage.audit.checkpoints import Checkpoint, Origin, read_anchor, write_anchor

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
