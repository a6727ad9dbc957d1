"""FETCH: its grammar, what each item needs, and the responses."""
