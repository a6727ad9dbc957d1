"""ARC (RFC 8617): validation of the chain that servers on the way sealed, and what the trusted ones of them saw."""
