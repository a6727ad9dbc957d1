"""iCalendar (RFC 5545) read from bytes, for what servers need of it: whether it holds, when it is, what it answers."""
