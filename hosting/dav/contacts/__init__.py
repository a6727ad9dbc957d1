"""CardDAV: address books as collections of WebDAV, what is asked of them and what may be put into them (RFC 6352)."""
