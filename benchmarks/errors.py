"""The one thing that can go wrong without being anybody's fault."""


class UnavailableError(Exception):
    """Something cannot be measured here; the text says why and goes into the report."""
