"""Mailboxes of others: rights, the names below Other Users, accounts that are open for readers."""
