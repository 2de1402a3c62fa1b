"""What a node has of one generic resource, and which of it tasks there have.

What tasks have stays theirs, also where the node has less since, names it anew, or counts what it
named before: they go on, and nothing that is not there is given to anybody. A name is free while
the node lists it and no task has it. Tasks that were given a number of what has names now could
have any of them, so as many names stay free of use.
"""

from __future__ import annotations

from collections import Counter

from api.types.generic import Amount


class Stock:
    __slots__ = ("amount", "held", "loose", "names")

    def __init__(self) -> None:
        self.amount: Amount = 0
        self.names: frozenset[str] = frozenset()
        self.held: Counter[str] = Counter()  # names that tasks have
        self.loose = 0  # what tasks have by number

    def offer(self, amount: Amount) -> None:
        """What the node has now."""
        self.amount = amount if isinstance(amount, int) else list(dict.fromkeys(amount))
        self.names = frozenset() if isinstance(amount, int) else frozenset(amount)

    def free(self) -> int:
        """What more may be given; negative where the node has less than tasks there have."""
        if isinstance(self.amount, int):
            return self.amount - self.loose - len(self.held)
        return len(self.names) - sum(name in self.names for name in self.held) - self.loose

    def short(self, kind: str) -> str:
        """What tasks have that the node has no more, for people; empty: nothing."""
        gone = sorted(self.held - Counter(self.names)) if self.names or not self.amount else []
        if gone:
            return f"{kind} {', '.join(gone)}, which the node no longer has"
        return f"{-self.free()} {kind} more than the node has" if self.free() < 0 else ""

    def choose(self, wanted: int) -> Amount:
        """Which ones a task that wants that many is given: the first, as the node lists them."""
        if isinstance(self.amount, int):
            return wanted
        return [name for name in self.amount if name not in self.held][:wanted]

    def take(self, amount: Amount) -> None:
        if isinstance(amount, int):
            self.loose += amount
        else:
            self.held.update(amount)

    def give_back(self, amount: Amount) -> None:
        if isinstance(amount, int):
            self.loose -= amount
            return
        for name in amount:
            self.held[name] -= 1
            if not self.held[name]:
                del self.held[name]

    @property
    def used(self) -> bool:
        return bool(self.loose or self.held)
