"""Greylisting (RFC 6647): a stranger's first message is put off, and taken when it is tried again."""

from gateway.greylist.greylist import Greylist, client_network
from gateway.greylist.settings import GreylistSettings

__all__ = ["Greylist", "GreylistSettings", "client_network"]
