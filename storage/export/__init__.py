"""An account or a tenant as a folder that its owner takes along: Maildir or mbox, an index, a signed manifest."""
