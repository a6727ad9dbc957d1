"""The methods of WebDAV, one module for each or for those that do nearly the same."""
