"""Mail as other programs keep it (mbox, Maildir, folders of .eml), read for `storage.importing`."""
