"""The whole data register: what storage declares, and the files that the gateway and this package write.

What the register says of a file stands beside its writer where that is one module; here are the files of processes.
"""

from __future__ import annotations

from gateway.classifier import model
from gateway.smtp import limit_files
from storage.register import classes
from storage.register.catalogue import CATALOGUE, Catalogue
from storage.register.values import FileClass

FILES = (
    FileClass("cleanmail.toml", classes.INSTALLATION, "the configuration"),
    FileClass("tls/*", classes.INSTALLATION, "certificates and their keys"),
    FileClass("run/*.sock", classes.INSTALLATION, "sockets of running processes"),
    FileClass("run/serve.lock", classes.INSTALLATION, "one server at a time"),
    FileClass("run/auth.lock", classes.INSTALLATION, "one holder of the master key at a time"),
    FileClass("run/queue.lock", classes.INSTALLATION, "one runner of the queue at a time"),
    FileClass("run/holders*", classes.INSTALLATION, "which processes hold keys of which tenants: numbers only"),
    FileClass("run/metrics", classes.INSTALLATION, "leads to counters in memory, without persons"),
    FileClass("run/metrics/*", classes.INSTALLATION, "the counters, where there is no memory for files"),
)

REGISTER: Catalogue = CATALOGUE.with_files([*limit_files.FILES, *model.FILES, *FILES])
