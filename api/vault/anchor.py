"""What a manager remembers of the store, outside of it: how far it has seen it come.

Who can write to etcd can put back everything that was once in it, the ring included, and nothing
in it would tell. So each manager keeps the ring's generation and a revision of the store in
`seen.json` beside its key. A ring that is gone or of an earlier generation is refused; a store
that is behind the revision is said, and used: that is what a restored backup looks like.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private
from api.vault.errors import VaultError

FILE = "seen.json"


class Seen(msgspec.Struct, frozen=True):
    generation: int = 0  # of the ring; 0: none yet
    revision: int = 0  # of the store


class Anchor:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = Seen()

    @classmethod
    def load(cls, path: Path) -> Anchor:
        """Raises VaultError where it can't be used."""
        made = cls(path)
        if path.exists():
            try:
                made.seen = msgspec.json.decode(read_private(path), type=Seen)
            except (PkiError, msgspec.MsgspecError) as error:
                raise VaultError(
                    f"{path}, which says how far this manager has seen the store, can't be used"
                    f" ({error}); if the store is as you left it, remove the file"
                ) from error
        return made

    def see(self, *, generation: int = 0, revision: int = 0) -> None:
        """Never less than before. Raises OSError."""
        seen = Seen(max(generation, self.seen.generation), max(revision, self.seen.revision))
        self._keep(seen)

    def set_back(self, revision: int) -> None:
        """The store was set back to this, and that is known now. Raises OSError."""
        self._keep(Seen(self.seen.generation, revision))

    def check(self, generation: int) -> None:
        """Whether the ring may be of this generation (0: there is none). Raises VaultError."""
        if generation >= self.seen.generation:
            return
        what = (
            f"is one that was replaced (generation {generation}, and {self.seen.generation} was"
            " seen)"
            if generation
            else "is gone"
        )
        raise VaultError(
            f"the ring of data keys in the store {what}: somebody wrote to etcd, or it was set back"
            " to a backup, or this is another etcd. Nothing was written. Restore etcd from a newer"
            f" backup; if what is there is what you want, remove {self.path} and start again"
        )

    def _keep(self, seen: Seen) -> None:
        if seen != self.seen:
            make_private_directory(self.path.parent)
            write_private(self.path, msgspec.json.encode(seen).decode())
            self.seen = seen
