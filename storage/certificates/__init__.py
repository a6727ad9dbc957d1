"""Certificates of erasure: what they say, how they are signed and verified, how people file them."""
