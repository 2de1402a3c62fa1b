"""VaultError: what goes wrong with sealed values and their key, in words."""

from __future__ import annotations


class VaultError(Exception):
    """A key is missing, damaged or open to others, or a value can't be opened with it."""
