"""SopsError: a file can't be decrypted, and why. No message repeats a value or a key."""

from __future__ import annotations

Path = tuple[str | int, ...]


class SopsError(Exception):
    """`document` and `path` say where in the file, as far as that is known."""

    def __init__(self, message: str, hint: str = "", *, document: int = 0, path: Path = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.document = document
        self.path = path
