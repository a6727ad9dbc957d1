"""DKIM: what is signed and how, keys and their records in DNS, whose key what leaves is signed with; and verification.

Standards: RFC 6376, RFC 8301 (RSA of 2048 bits, SHA-256 only), RFC 8463 (Ed25519), RFC 8616 (internationalised mail).
"""
