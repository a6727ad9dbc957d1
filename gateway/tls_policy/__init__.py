"""What a domain demands of TLS on the way to its mail servers: DANE, MTA-STS, and how it went, for TLS reports."""
