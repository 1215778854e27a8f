"""The error that is not a fault: something cannot be measured on this machine."""


class UnavailableError(Exception):
    """Something cannot be measured here; the text says why and goes into the report."""
