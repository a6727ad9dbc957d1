"""Sharing inside a tenant: as Apple's clients do it (caldav-sharing), and draft-pot-webdav-resource-sharing."""
