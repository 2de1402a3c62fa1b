"""Many writes cut into commits: by count, by bytes, and never one key twice in a commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from api.store.contract import TooLarge, Write

# What a write costs beside its value: the compare and the put each name the key.
_KEY_COPIES = 2
_OVERHEAD = 64


def size(write: Write) -> int:
    """Bytes of a write in a request, at most."""
    return len(write.key) * _KEY_COPIES + len(write.value or b"") + _OVERHEAD


def check(writes: Sequence[Write], max_ops: int, max_bytes: int) -> None:
    """Whether they fit one commit. Raises TooLarge, and ValueError for a key that is in twice."""
    if len(writes) > max_ops:
        raise TooLarge(f"{len(writes)} writes in one commit; the store takes {max_ops}")
    if len({write.key for write in writes}) < len(writes):
        twice, _ = Counter(write.key for write in writes).most_common(1)[0]
        raise ValueError(f"{twice} is in one commit twice")
    total = sum(size(write) for write in writes)
    if total > max_bytes:
        largest = max(writes, key=size)
        raise TooLarge(
            f"a commit of {total:,} bytes; the store takes {max_bytes:,} "
            f"(the largest value, {len(largest.value or b''):,} bytes, is {largest.key}'s)"
        )


def rounds(writes: Sequence[Write], max_ops: int, max_bytes: int) -> list[list[list[int]]]:
    """Positions in `writes`, cut into rounds of groups: a group fits a commit.

    Groups of one round share no key and may be written at once; a key's second write is in the
    second round, and so on. Raises TooLarge for a write that fits no commit by itself.
    """
    seen: dict[str, int] = {}
    by_round: list[list[int]] = []
    for at, write in enumerate(writes):
        if size(write) > max_bytes:
            raise TooLarge(
                f"{write.key}: a value of {len(write.value or b''):,} bytes; "
                f"the store takes {max_bytes:,}"
            )
        nth = seen.get(write.key, 0)
        seen[write.key] = nth + 1
        if nth == len(by_round):
            by_round.append([])
        by_round[nth].append(at)
    return [list(_groups(writes, ats, max_ops, max_bytes)) for ats in by_round]


def _groups(
    writes: Sequence[Write], ats: list[int], max_ops: int, max_bytes: int
) -> Iterator[list[int]]:
    group: list[int] = []
    total = 0
    for at in ats:
        cost = size(writes[at])
        if group and (len(group) >= max_ops or total + cost > max_bytes):
            yield group
            group, total = [], 0
        group.append(at)
        total += cost
    if group:
        yield group
