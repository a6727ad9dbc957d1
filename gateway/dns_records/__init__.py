"""The records that a mail domain should have in DNS, in zone form, and what of them is there.

`wanted` and `findings` are pure; `facts` asks DNS. Nothing here changes anything.

Standards: RFC 5321 §5 (MX), RFC 7208 (SPF), RFC 6376 (DKIM), RFC 7489 (DMARC), RFC 8460 (TLS-RPT), RFC 8461 (MTA-STS),
RFC 6186, RFC 8314 and RFC 6764 (SRV), RFC 8659 (CAA).
"""
