"""Mailboxes as things: LIST, SELECT, STATUS, CREATE and so on, quota, annotations."""
