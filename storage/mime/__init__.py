"""Messages read as byte spans: header fields, MIME structure, and what IMAP says about both.

`message.read_message` reads a message once; `content.derive` computes from it what is kept beside a stored message;
`parts` finds sections in it later. Nothing here copies a body, does I/O, recurses over input or fails on any input.

Standards: RFC 5322, RFC 2045 to 2047, RFC 2183, RFC 2231, RFC 6532, RFC 9051 §6.4.5 and §7.5.2, RFC 5256, RFC 8970.
"""
