"""The section [relay]: what is taken, and what is refused with its line."""

from __future__ import annotations

import pytest

from hosting.config import parse
from storage.errors import InvalidInput


def test_the_section() -> None:
    config = parse('[relay]\nport = 2525\nprivate_networks = ["127.0.0.0/8", "fd00::/8"]\nretry_time = 3600\n')
    assert (config.relay.port, config.relay.retry_time, config.relay.delay_notice) == (2525, 3600, 0)
    assert parse("").relay.retry_time == 5 * 86_400
    assert config.relay.connections_per_destination <= config.relay.connections


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("port = 0", "relay.port"),
        ('private_networks = ["home"]', "relay.private_networks"),
        ('private_networks = ["127.0.0.1/8"]', "relay.private_networks"),
        ('source_addresses = ["localhost"]', "relay.source_addresses"),
        ("idle_time = 0", "relay.idle_time"),
        ("connections = 0", "relay.connections"),
        ("retry_tim = 5", "retry_time"),
    ],
)
def test_mistakes(line: str, key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(f"[relay]\n{line}\n")
    assert "cleanmail.toml:2:" in str(caught.value)
    assert key in str(caught.value)
