"""WebDAV, CalDAV and CardDAV on our storage (RFC 4918, RFC 4791, RFC 6352)."""
