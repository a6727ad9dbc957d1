"""What changes messages: APPEND, REPLACE, STORE, COPY, MOVE, EXPUNGE."""
