"""Withheld messages: two encrypted files each, header and body, with rows in the tenant's database."""
