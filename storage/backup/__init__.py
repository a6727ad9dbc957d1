"""Backups of a running installation, and what is restored from them."""
