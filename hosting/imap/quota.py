"""GETQUOTA, GETQUOTAROOT, SETQUOTA: one root per account, named "".

Standards: RFC 9208 (QUOTA=RES-STORAGE in units of 1,024 octets, QUOTA=RES-MESSAGE).
"""

from __future__ import annotations

from hosting.imap import encode
from hosting.imap.commands import GetQuota, GetQuotaRoot, SetQuota
from hosting.imap.effects import Flow
from hosting.imap.replies import Refused
from hosting.imap.session import Session


def get_quota(session: Session, _: bytes, command: GetQuota) -> Flow[bytes]:
    if command.root:
        raise Refused(b"NONEXISTENT", "There is no such quota root.")
    yield _quota(session)
    return b"That is all."


def get_quota_root(session: Session, _: bytes, command: GetQuotaRoot) -> Flow[bytes]:
    yield b'* QUOTAROOT %b ""\r\n' % encode.mailbox(command.mailbox, session.utf8)
    yield _quota(session)
    return b"That is all."


def set_quota(_: Session, __: bytes, ___: SetQuota) -> Flow[bytes]:
    yield from ()
    raise Refused(b"NOPERM", "Your provider sets the quota.")


def _quota(session: Session) -> bytes:
    usage, user = session.mail.usage(), session.user
    resources = []
    if user.quota_bytes:
        resources.append(f"STORAGE {-(-usage.bytes // 1024)} {user.quota_bytes // 1024}")
    if user.quota_messages:
        resources.append(f"MESSAGE {usage.messages} {user.quota_messages}")
    return f'* QUOTA "" ({" ".join(resources)})\r\n'.encode("ascii")
