"""What is wrong with a sealed value. No message repeats the value.

SealError
├── Malformed    the text is not of the form
├── Damaged      the text was cut off or changed since it was made
├── Misplaced    it was sealed for another namespace, name or key
├── UnknownKey   it was sealed to a key that is not among those at hand
└── WillNotOpen  all of that is right, and it does not open: somebody made it up
"""

from __future__ import annotations


class SealError(Exception):
    pass


class Malformed(SealError):
    pass


class Damaged(SealError):
    pass


class Misplaced(SealError):
    pass


class UnknownKey(SealError):
    def __init__(self, id: str) -> None:
        super().__init__(f"it was sealed to the key {id}")
        self.id = id


class WillNotOpen(SealError):
    pass
