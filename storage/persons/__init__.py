"""Rights of persons: whose an address is, what is stored about it, and how that is corrected and erased."""
