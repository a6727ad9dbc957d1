"""SPF (RFC 7208): whether the address that speaks may send mail for the domain it names."""

from gateway.spf.check import best_guess, check_host
from gateway.spf.result import Spf, SpfResult

__all__ = ["Spf", "SpfResult", "best_guess", "check_host"]
