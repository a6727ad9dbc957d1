"""The quarantine as people use it: a service for the command line, the web application and the API."""
