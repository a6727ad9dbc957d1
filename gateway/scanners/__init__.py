"""Programs that scan beside our own judgement, where an operator runs them: ClamAV's clamd, Rspamd."""

from gateway.scanners.clamd import Clamd
from gateway.scanners.results import MalwareResult, RspamdResult
from gateway.scanners.rspamd import Envelope, Rspamd, read_password
from gateway.scanners.settings import ScannerSettings

__all__ = ["Clamd", "Envelope", "MalwareResult", "Rspamd", "RspamdResult", "ScannerSettings", "read_password"]
