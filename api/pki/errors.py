"""PkiError: what goes wrong with keys and certificates, in words."""

from __future__ import annotations


class PkiError(Exception):
    """A key or certificate is missing, damaged, open to others or not what it should be."""
