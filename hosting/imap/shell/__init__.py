"""Twisted's side: sockets, TLS, compression, and the service around all connections."""
