"""The test suite of RFC 7208 (openspf.org, release 2014.04), over real questions to a name server on loopback.

vectors/rfc7208.json is rfc7208-tests.yml without its comments; its licence stands beside it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_server import DnsServer, Lie

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.spf.check import evaluate

SUITE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "rfc7208.json").read_text("utf-8"))


def scenario_name(scenario: dict[str, Any]) -> str:
    return str(scenario["description"]).lower().replace(" ", "-")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, DnsServer]]:
    running: dict[str, DnsServer] = {}
    yield running
    for server in running.values():
        server.__exit__(None, None, None)


def serving(servers: dict[str, DnsServer], scenario: dict[str, Any]) -> DnsServer:
    name = scenario_name(scenario)
    if name not in servers:
        servers[name] = DnsServer().__enter__()
        for owner, items in scenario["zonedata"].items():
            _publish(servers[name], owner, items)
    return servers[name]


def _publish(server: DnsServer, owner: str, items: list[Any]) -> None:
    """The suite's words for records; type SPF stands for TXT where no TXT is given, TIMEOUT for no answer."""
    records: dict[str, list[str]] = {}
    values = [next(iter(item.items())) for item in items if isinstance(item, dict)]
    if not any(kind == "TXT" for kind, _ in values):
        values += [("TXT", value) for kind, value in values if kind == "SPF"]
    for kind, value in values:
        if kind == "SPF" or value == "NONE":
            continue
        records.setdefault(kind, []).append(_record(kind, value))
    server.put(owner, **records)
    if "TIMEOUT" in items:
        for kind in {"A", "AAAA", "MX", "PTR", "TXT"} - set(records):
            server.lie(owner, Lie(rcode="SERVFAIL"), kind)


def _record(kind: str, value: Any) -> str:
    if kind == "TXT":
        joined = "".join([value] if isinstance(value, str) else value)
        return joined or '""'
    if kind == "MX":
        return f"{value[0]} {value[1].removesuffix('.')}."
    return value if kind in ("A", "AAAA") else f"{value.removesuffix('.')}."


CASES = [
    pytest.param(scenario, test, id=f"{scenario_name(scenario)}/{name}")
    for scenario in SUITE
    for name, test in scenario["tests"].items()
]


@pytest.mark.parametrize(("scenario", "test"), CASES)
def test_rfc_7208(servers: dict[str, DnsServer], scenario: dict[str, Any], test: dict[str, Any]) -> None:
    server = serving(servers, scenario)
    dns = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=5.0))
    helo, sender = test["helo"], test["mailfrom"]
    local, _, domain = sender.rpartition("@")
    checked = evaluate(dns, test["host"], domain or helo, local, helo, receiver="receiver.test", explain=True)
    result = asyncio.run(checked)
    expected = test["result"]
    assert result.result in (expected if isinstance(expected, list) else [expected]), result.term
    if "explanation" in test:
        assert (result.explanation or "DEFAULT") == test["explanation"]


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 203
