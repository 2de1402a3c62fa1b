"""What the daemons write to their logs, in a process of its own as they set it up for all of it."""

from __future__ import annotations

import json
import subprocess
import sys

FAIL = """
import sys
from controllers.logs import configure
import structlog
configure("info", sys.argv[1])
def inner(password):
    raise ValueError("the reason")
try:
    inner("hunter2")
except ValueError:
    structlog.get_logger("test").exception("it failed", task="web-1")
print("rich" in sys.modules)
import rich.text
"""


def failed(form: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", FAIL, form], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_a_traceback_shows_no_values() -> None:
    _, log = failed("text")
    assert "it failed" in log
    assert "task=web-1" in log
    assert "ValueError: the reason" in log
    assert "password = " not in log
    _, log = failed("json")
    event = json.loads(log)
    assert (event["event"], event["task"]) == ("it failed", "web-1")
    assert "ValueError: the reason" in event["exception"]
    assert "hunter2" not in event["exception"].replace('inner("hunter2")', "")


def test_a_daemon_does_not_load_what_only_the_command_line_needs() -> None:
    """6 MiB of it; whoever does need it still can."""
    loaded, _ = failed("text")
    assert loaded == "False\n"
