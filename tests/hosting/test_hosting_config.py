"""The configuration: defaults, mistakes with their lines and hints, and what is checked across settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosting.config import Config, load, parse
from storage.errors import InvalidInput


def mistakes(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    return caught.value.public.split("\n")


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path / "cleanmail.toml")
    assert config == Config()
    assert (config.listen.imaps, config.listen.submissions) == (993, 465)
    assert config.imap_workers >= 1


def test_what_the_file_says_replaces_defaults_at_any_depth() -> None:
    config = parse(
        """
        [server]
        stop_within = 5          # a whole number where a fraction is possible
        [imap]
        idle_timeout = 3600
        [auth.throttle.login]
        free = 3
        [keys]
        master_command = ["pass", "show", "cleanmail"]
        """
    )
    assert config.server.stop_within == 5.0
    assert config.imap.idle_timeout == 3600
    assert config.auth.throttle.login.free == 3
    assert config.auth.throttle.login.parallel == Config().auth.throttle.login.parallel
    assert config.keys.master_command == ("pass", "show", "cleanmail")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[imap]\n\nidle_timout = 3",
            "cleanmail.toml:3: unknown key 'idle_timout' in [imap]; did you mean 'idle_timeout'?",
        ),
        ("[impa]\nx = 1", "cleanmail.toml:1: unknown table 'impa' in the file; did you mean 'imap'?"),
        ("[listen]\nimap = '143'", "cleanmail.toml:2: listen.imap must be a whole number, not '143'."),
        ("[listen]\nimap = 99999", "cleanmail.toml:2: listen.imap must be at most 65535, not 99999."),
        ("[listen]\nimap = true", "cleanmail.toml:2: listen.imap must be a whole number, not true."),
        ("[server]\nimap_workers = -1", "cleanmail.toml:2: server.imap_workers must be at least 0, not -1."),
        ("[imap]\nidle_timeout = 0", "cleanmail.toml:2: imap.idle_timeout must be more than 0, not 0.0."),
        (
            "[logs]\nlevel = 'chatty'",
            "cleanmail.toml:2: logs.level must be one of debug, info, warning, error, not 'chatty'.",
        ),
        ("imap = 3", "cleanmail.toml:1: [imap] is a table of settings, not a value."),
        ("[dns]\nport = 0", "cleanmail.toml:2: dns.port must be at least 1, not 0."),
        ("[tls]\ncertificate = 7", 'cleanmail.toml:2: tls.certificate must be a text in quotes, "like this", not 7.'),
        (
            "[auth]\nthrottle.login.fre = 2",
            "cleanmail.toml:2: unknown key 'fre' in [auth.throttle.login]; did you mean 'free'?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: str) -> None:
    assert mistakes(text) == [said]


def test_all_mistakes_are_told_in_the_order_of_their_lines() -> None:
    said = mistakes("[imap]\nliteral = 'x'\n[listen]\nimapss = 4\n[server]\nstop_within = -2\n")
    assert [line.split(": ")[0] for line in said] == ["cleanmail.toml:2", "cleanmail.toml:4", "cleanmail.toml:6"]


def test_a_file_that_is_no_toml_is_told_with_line_and_column() -> None:
    assert mistakes("[imap]\nidle_timeout == 3\n") == ["cleanmail.toml:2: Invalid value (column 15)."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listen]\nplain_text_sign_in = true", "possible only where every address"),
        ("[listen]\naddresses = ['mail.example']", "is no IP address"),
        ("[listen]\naddresses = []", "is empty"),
        ("[listen]\noperations_address = '0.0.0.0'", "must be a loopback address"),
        ("[listen]\nimap = 993", "has a port (993) that another listener has too"),
        ("[listen]\nhttps = 993", "listen.https has a port (993) that another listener has too"),
        ("[web]\nthreads = 0", "threads"),
        ("[listen]\nproxy_protocol_from = ['10.0.0.1/8']", "is no network"),
        ("[keys]\nmaster_file = '/x'\nmaster_command = ['y']", "more than one place"),
        ("[mail]\npostmaster = 'nobody'", "is not an e-mail address"),
        ("[dns]\nnameservers = ['ns.example']", "is no IP address"),
        ("[imap]\nhidden = {X = 'IDLE UIDONLI'}", "'UIDONLI' is no capability"),
        ("[imap.hidden]\n'' = 'IDLE'", "a name is empty"),
    ],
)
def test_what_does_not_fit_together_is_refused(text: str, said: str) -> None:
    assert any(said in line and line.startswith("cleanmail.toml:") for line in mistakes(text))


def test_plain_text_sign_in_on_loopback() -> None:
    assert parse("[listen]\naddresses = ['127.0.0.1', '::1']\nplain_text_sign_in = true").listen.plain_text_sign_in


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[filter]\ntrusted_networks = ["10.0.0.1/8"]', "'10.0.0.1/8' in filter.trusted_networks is no network."),
        ('[filter]\ndns_lists = ["zen.example.org=10.0.0.1"]', "filter.dns_lists: '10.0.0.1' is no answer"),
        ('[filter.rules]\ntrusted_sealers = ["no name"]', "'no name' in filter.rules.trusted_sealers is no domain"),
        ("[filter.rules]\nreject_at = 2.0", "filter.rules.reject_at must be 0 (never), or at least junk_at (4.5)."),
        (
            '[filter.rules]\nmalware = "deliver"',
            "filter.rules.malware must be one of quarantine, reject",
        ),
        ('[filter.scanners]\nclamd = "/run/clamd"', "filter.scanners.clamd: '/run/clamd' is no place of clamd"),
        (
            '[filter.scanners]\nrspamd = "127.0.0.1:11333"',
            "filter.scanners.rspamd: '127.0.0.1:11333' is no place of Rspamd",
        ),
    ],
)
def test_mistakes_about_the_filter(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(text)
    assert sentence in error.value.public and "cleanmail.toml:2:" in error.value.public


def test_the_filter_is_configured() -> None:
    config = parse(
        '[filter]\ntime_limit = 5\ndns_lists = ["zen.example.org:reject"]\n[filter.rules]\njunk_at = 5\n'
        'reject_at = 12.5\n[filter.scanners]\nclamd = "unix:/run/clamd.ctl"\n[filter.greylist]\nenabled = true\n'
    )
    assert (config.filter.time_limit, config.filter.rules.junk_at, config.filter.rules.reject_at) == (5.0, 5.0, 12.5)
    assert config.filter.scanners.clamd == "unix:/run/clamd.ctl" and config.filter.greylist.enabled
