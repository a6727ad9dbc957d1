"""DNS lists of addresses that are known to send spam, or known not to: asked only where an operator names some."""

from gateway.dns_lists.lists import DnsList, Listing, parse_lists
from gateway.dns_lists.lookup import DnsLists, listed

__all__ = ["DnsList", "DnsLists", "Listing", "listed", "parse_lists"]
