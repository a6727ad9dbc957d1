"""What lies beside the mail in an account: calendars, address books, scheduling boxes, folders of files."""
