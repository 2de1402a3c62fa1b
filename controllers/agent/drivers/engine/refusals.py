"""Why the Engine could not start a container, in words that say what to do.

Its own words name the layers that the failure came through, seldom the field to change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from controllers.agent.drivers.contract import DriverError, Refused
from controllers.agent.drivers.words import no_command, port_taken

_COMMAND = re.compile(
    r'exec: "(?P<command>[^"]*)": (?:executable file not found|stat .*no such file)'
)
_FORBIDDEN = re.compile(r'exec: "(?P<command>[^"]*)": permission denied')
_PROGRAM_HAS = re.compile(
    r"listen (?P<protocol>[a-z]+)[46]? \S*:(?P<port>\d+): bind: address already in use"
)
_CONTAINER_HAS = re.compile(r"Bind for \S*:(?P<port>\d+) failed: port is already allocated")
_IN_PROC = re.compile(
    r'rootfs at "(?P<target>[^"]+)".* cannot be mounted because it is inside (?P<inside>/\w+)'
)
_NO_DRIVER = re.compile(
    r'could not select device driver "(?P<driver>[^"]*)" '
    r"with capabilities: \[\[(?P<wanted>[^\]]*)\]"
)
# What the runtime puts in front of the reason.
_LAYERS = re.compile(
    r"^.*(?:OCI runtime create failed|runc create failed|container process caused"
    r"|unable to start container process|container init): "
)


def start_words(error: DriverError, inspected: Mapping[str, Any]) -> DriverError:
    """The same failure for people. `inspected` is the container that could not be started."""
    text = str(error)
    image = inspected["Config"]["Image"]
    if found := _COMMAND.search(text):
        return Refused(no_command(found["command"], image))
    if found := _FORBIDDEN.search(text):
        return Refused(
            f"{found['command']} in image {image} is not a program that may be run; "
            "check `command`, the file's mode in the image, and `user`"
        )
    if found := _IN_PROC.search(text):
        return Refused(
            f"nothing can be mounted at {found['target']}: in image {image} a link leads from"
            f" there into {found['inside']}, which is the kernel's; give another target"
        )
    if found := _PROGRAM_HAS.search(text):
        return DriverError(port_taken(int(found["port"]), found["protocol"], "another program"))
    if found := _CONTAINER_HAS.search(text):
        protocol = _protocol(inspected, found["port"])
        return DriverError(port_taken(int(found["port"]), protocol, "another container"))
    if found := _NO_DRIVER.search(text):
        return Refused(_no_driver(found["driver"], found["wanted"], inspected))
    return type(error)(_LAYERS.sub("", text).removesuffix(": unknown"))


def _no_driver(driver: str, wanted: str, inspected: Mapping[str, Any]) -> str:
    requests = inspected["HostConfig"].get("DeviceRequests") or ()
    ids = ", ".join(id for request in requests for id in request.get("DeviceIDs") or ())
    called = f"driver {driver}" if driver else "driver"
    return (
        f"the engine has no device {called} for {wanted}, so it can't hand over {ids}; install it"
        " on the node (for NVIDIA's GPUs: nvidia-container-toolkit) and start the engine again"
    )


def _protocol(inspected: Mapping[str, Any], published: str) -> str:
    bindings = inspected["HostConfig"].get("PortBindings") or {}
    for target, hosts in bindings.items():
        if any(host.get("HostPort") == published for host in hosts or ()):
            return str(target).partition("/")[2]
    return "tcp"
