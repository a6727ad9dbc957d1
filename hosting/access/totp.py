"""The second factor: codes of an authenticator program, and how its secret gets there. Pure.

Standards: RFC 6238 (six digits, 30 seconds, SHA-1, which is what these programs know), RFC 4226.
"""

from __future__ import annotations

import hmac
import io

import pyotp
import segno

SECONDS = 30
STEPS = (0, -1, 1)  # beside the present one: clocks differ, and people type slowly

_DIGITS = 6


def new_secret() -> str:
    """160 random bits in base32."""
    return pyotp.random_base32(32)


def step_of(secret: str, code: str, now: int) -> int | None:
    """The time step whose code it is, near `now` (Unix seconds); None: it is none of them."""
    given = code.strip().replace(" ", "")
    if len(given) != _DIGITS or not (given.isascii() and given.isdecimal()):
        return None
    totp = pyotp.TOTP(secret, digits=_DIGITS, interval=SECONDS)
    found = None
    for step in (now // SECONDS + offset for offset in STEPS):
        if step >= 0 and hmac.compare_digest(totp.generate_otp(step), given) and found is None:
            found = step
    return found


def uri(secret: str, name: str, issuer: str) -> str:
    """What authenticator programs read: otpauth://totp/…"""
    return pyotp.TOTP(secret, digits=_DIGITS, interval=SECONDS).provisioning_uri(name=name, issuer_name=issuer)


def picture(text: str) -> str:
    """A QR code of it for a terminal."""
    drawn = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out=drawn, compact=True)
    return drawn.getvalue()
