"""Moving in: pulls an account from another provider's IMAP server, again and again until the cut-over.

`source` says where and as whom, `wire` bounds what the other server may send, `connecting` signs in, `client` speaks
with it, `answers` reads what it says, `folders` decides what goes where, `pull` brings one folder up to date, with its
new messages (`arrivals`) and its `flags`, `run` is what all folders of a run share, `account` moves them all, `report`
counts, `table` reads a list of accounts.
"""
