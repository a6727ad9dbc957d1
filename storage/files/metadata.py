"""What a message file says about itself, sealed with its first chunk: enough to make an account anew from its files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from storage.errors import Corrupt, TooLarge
from storage.values import AccountId, MessageId

META_MAX = 1 << 20  # octets of everything here together; the added header prefix is most of it

_VERSION = 1
_NUMBERS = struct.Struct(">BQQqQ")
_LENGTH = struct.Struct(">I")
_ZONE = struct.Struct(">h")  # at the end, unless it is 0
_NO_DELIVERY = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FileMeta:
    account_id: AccountId
    message_id: MessageId
    internal_date: int  # Unix seconds
    mailbox: str = "INBOX"  # the first one; later moves are in the database alone
    flags: int = 0  # as delivered or appended
    keywords: tuple[str, ...] = ()
    delivery_id: str | None = None
    prefix: bytes = b""  # header fields that we added before the message
    internal_zone: int = 0  # minutes east of UTC

    def pack(self) -> bytes:
        """Raises TooLarge."""
        fields = [
            self.mailbox.encode(),
            " ".join(self.keywords).encode(),
            None if self.delivery_id is None else self.delivery_id.encode(),
            self.prefix,
        ]
        parts = [_NUMBERS.pack(_VERSION, self.account_id, self.message_id, self.internal_date, self.flags)]
        for field in fields:
            parts.append(_LENGTH.pack(_NO_DELIVERY if field is None else len(field)))
            parts.append(field or b"")
        if self.internal_zone:
            parts.append(_ZONE.pack(self.internal_zone))
        packed = b"".join(parts)
        if len(packed) > META_MAX:
            raise TooLarge
        return packed

    @staticmethod
    def prefix_of(packed: bytes) -> bytes:
        """The added header fields alone. Raises Corrupt."""
        try:
            position = _NUMBERS.size
            for _ in range(3):
                (length,) = _LENGTH.unpack_from(packed, position)
                position += _LENGTH.size + (length if length != _NO_DELIVERY else 0)
            (length,) = _LENGTH.unpack_from(packed, position)
        except struct.error:
            raise Corrupt(detail="message file: metadata unreadable") from None
        start, end = position + _LENGTH.size, position + _LENGTH.size + length
        if packed[0] != _VERSION or length == _NO_DELIVERY or end > len(packed):
            raise Corrupt(detail="message file: metadata unreadable")
        return packed[start:end]

    @classmethod
    def unpack(cls, packed: bytes) -> FileMeta:
        """Raises Corrupt."""
        try:
            version, account_id, message_id, internal_date, flags = _NUMBERS.unpack_from(packed)
            if version != _VERSION:
                raise Corrupt(detail=f"message file: metadata of version {version}")
            position = _NUMBERS.size
            fields: list[bytes | None] = []
            for _ in range(4):
                (length,) = _LENGTH.unpack_from(packed, position)
                position += _LENGTH.size
                if length == _NO_DELIVERY:
                    fields.append(None)
                    continue
                fields.append(packed[position : position + length])
                position += length
            mailbox, keywords, delivery_id, prefix = fields
            if mailbox is None or keywords is None or prefix is None or position > len(packed):
                raise Corrupt(detail="message file: metadata cut")
            zone = _ZONE.unpack_from(packed, position)[0] if len(packed) > position else 0
            return cls(
                account_id,
                message_id,
                internal_date,
                mailbox.decode(),
                flags,
                tuple(keywords.decode().split()) if keywords else (),
                None if delivery_id is None else delivery_id.decode(),
                prefix,
                zone,
            )
        except (struct.error, UnicodeDecodeError):
            raise Corrupt(detail="message file: metadata unreadable") from None
