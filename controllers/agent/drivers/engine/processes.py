"""Ending a process that was started in a container: the Engine can start one, and not end it.

It says the process's number on the machine where it runs. Where that is this one, the agent ends it
itself; and only if the kernel says that the process is the container's, for by now the number may
be another's, or of another machine.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path


def kill(pid: int, container_id: str) -> bool:
    """End it and what it started, at once; whether it is over. False: it is not to be found."""
    try:
        handle = os.pidfd_open(pid)  # from here on it is that process or none
    except OSError:
        return False
    try:
        if container_id not in Path(f"/proc/{pid}/cgroup").read_text():
            return False
        # The runtime gives each process it starts a session; a shell's children are in its group.
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has just ended by itself
    finally:
        os.close(handle)
    return True
