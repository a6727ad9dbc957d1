"""What an operator says about programs that scan for malware and spam beside our own judgement."""

from __future__ import annotations

from dataclasses import dataclass, field

TIMEOUT = 10.0
SCAN_SIZE = 25 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """ClamAV and Rspamd, where the operator runs them. What they do not answer in time is not known; mail goes on."""

    clamd: str = ""  # where clamd listens: "unix:/run/clamav/clamd.ctl" or "127.0.0.1:3310"; empty: nobody is asked
    clamd_timeout: float = TIMEOUT  # seconds for one message; at most nine tenths of filter.time_limit
    # octets; larger messages are not shown to scanners, and not known to be clean (clamd: StreamMaxLength)
    scan_size: int = field(default=SCAN_SIZE, metadata={"least": 1})
    rspamd: str = ""  # where Rspamd's normal worker listens: "http://127.0.0.1:11333"; empty: nobody is asked
    rspamd_timeout: float = TIMEOUT  # seconds for one message; at most nine tenths of filter.time_limit
    rspamd_password_file: str = ""  # a file with Rspamd's password, where it asks for one
