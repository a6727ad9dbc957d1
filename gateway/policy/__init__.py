"""What becomes of a message for each of its recipients: pure decisions on facts."""
