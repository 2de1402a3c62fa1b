"""Random text: from an alphabet, in words, or bytes in an encoding.

Every value of the asked form is as likely as any other, also where some of each class of
characters is asked for: a text without is thrown away whole, never mended.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from functools import cache
from typing import Final

from api.types.generated import Generate
from api.types.randomtext import CLASSES, WORD_COUNT, alphabet, is_words, length

_ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "hex": lambda raw: raw.hex().encode(),
    "raw": bytes,
}


def make(wanted: Generate) -> bytes:
    """A value. It must not be impossible, in the words of `api.types.randomtext`."""
    if wanted.bytes:
        return _ENCODINGS[wanted.encoding](secrets.token_bytes(wanted.bytes))
    count = length(wanted)
    if is_words(wanted):
        return wanted.separator.join(secrets.choice(_words()) for _ in range(count)).encode()
    chars = alphabet(wanted)
    asked = [CLASSES[name] for name in wanted.classes]
    while True:
        text = "".join(secrets.choice(chars) for _ in range(count))
        if all(any(map(belongs, text)) for belongs in asked):
            return text.encode()


@cache
def _words() -> tuple[str, ...]:
    # Only who asks for words reads the list.
    from xkcdpass import xkcd_password

    file = xkcd_password.locate_wordfile("eff-long")
    found = set(xkcd_password.generate_wordlist(file, min_length=1, max_length=99))
    if len(found) != WORD_COUNT:
        raise RuntimeError(f"the list of words has {len(found)}, not {WORD_COUNT}")
    return tuple(sorted(found))
