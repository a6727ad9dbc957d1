"""Scheduling messages (iTIP, RFC 5546): made from what changed, and applied to what is stored. Pure."""
