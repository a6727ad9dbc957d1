"""What clients are told without asking: NOTIFY, IDLE, annotations."""
