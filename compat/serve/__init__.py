"""The WSGI servers."""
