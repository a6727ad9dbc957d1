"""What people teach the filter: lessons of their moves and keywords, and what mail is scored with after them."""
