"""vCard 3 and 4 (RFC 2426, RFC 6350) read from bytes, as real address books write it."""
