"""IMAP4rev1 and IMAP4rev2 with the extensions that mail clients use.

A pure core (`decoder`, `grammar`, `session` and one module per command family) that turns octets into effects, and a
thin Twisted shell (`connection`, `service`) that carries the effects out.
"""
