"""SEARCH, SORT, THREAD and what goes by their keys: results in parts, kept up to date, over many mailboxes."""
