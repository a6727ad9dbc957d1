"""DMARC (RFC 9989): whether the author's domain stands behind a message, and what it asks for if not."""
