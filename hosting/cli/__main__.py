"""`python -m hosting.cli` is `cleanmail`."""

from hosting.cli import main

main()
