"""Why the runtime was not registered or removed."""

from __future__ import annotations


class RegistrationError(Exception):
    """Nothing was changed, or all is as it was; the text says why and what to do."""


class Malformed(RegistrationError):
    """The engine's configuration is not what an engine reads. `line` and `column` from 1, or 0."""

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
