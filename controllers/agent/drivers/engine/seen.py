"""Files of the agent's that containers see through bind mounts.

Such a mount holds on to the inode, so a file is rewritten in place and never replaced.
"""

from __future__ import annotations

import os
from pathlib import Path

from controllers.agent.drivers.contract import DriverError

_WRITE = os.O_WRONLY | os.O_CREAT


def rewrite(path: str, text: str, what: str) -> None:
    """Make it say this. `what` it is, for people. Raises DriverError. The path is a string: this is
    done twice a container, often enough for a Path to count."""
    content = text.encode()
    try:
        try:
            descriptor = os.open(path, _WRITE, 0o644)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _WRITE, 0o644)
        try:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DriverError(
            f"{what} can't be written to {path}: {error.strerror}; see that there is room on the"
            " node and that the agent's run directory may be written"
        ) from error
