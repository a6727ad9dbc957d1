"""The MTA-STS policy that mta-sts.<domain> serves. Pure; the same for every domain, and the id in DNS follows its text.

Standards: RFC 8461 §3.2.
"""

from __future__ import annotations

from hosting.discovery.offered import Offered

PATH = "/.well-known/mta-sts.txt"
MEDIA_TYPE = "text/plain"


def policy(offered: Offered) -> str | None:
    """None where the operator serves none."""
    if offered.sts is None:
        return None
    lines = ["version: STSv1", f"mode: {offered.sts}"]
    lines += [f"mx: {host}" for host in offered.exchangers]
    lines.append(f"max_age: {offered.sts_max_age}")
    return "".join(f"{line}\r\n" for line in lines)
