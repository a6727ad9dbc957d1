"""Scheduling between accounts and by mail (RFC 6638, RFC 6047)."""
