"""Notes: one record each, seen as a journal entry over CalDAV and as a message in the mailbox Notes."""
