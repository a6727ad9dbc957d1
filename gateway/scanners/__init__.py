"""Programs that scan beside our own judgement, where an operator runs them: ClamAV's clamd, Rspamd."""

from gateway.scanners.results import MalwareResult, RspamdResult
from gateway.scanners.settings import ScannerSettings

__all__ = ["MalwareResult", "RspamdResult", "ScannerSettings"]
