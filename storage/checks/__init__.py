"""The parts of `storage.check`: what a finding is, checks of rows, of files and of keys."""
