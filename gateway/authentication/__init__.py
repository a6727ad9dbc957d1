"""SPF, DKIM, ARC and DMARC of one message, collected side by side within a time limit."""

from gateway.authentication.authorship import Authors, authors
from gateway.authentication.collection import PreparedMessage, collect, prepare
from gateway.authentication.facts import (
    AuthenticationFacts,
    Unknown,
    authenticated_domains,
    authentication_results,
    author_is_authentic,
    path_is_authentic,
)

__all__ = [
    "AuthenticationFacts",
    "Authors",
    "PreparedMessage",
    "Unknown",
    "authenticated_domains",
    "authentication_results",
    "author_is_authentic",
    "authors",
    "collect",
    "path_is_authentic",
    "prepare",
]
