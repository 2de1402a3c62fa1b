"""What all drivers say alike, of what goes wrong most often."""

from __future__ import annotations


def no_command(command: str, image: str) -> str:
    return (
        f"image {image} has no command {command}; "
        "check `command` and `args`, and that the program is in the image and on its PATH"
    )


def port_taken(published: int, protocol: str, by: str) -> str:
    """`by`: another container, or another program."""
    show = f"ss -{'u' if protocol == 'udp' else 't'}lnp 'sport = :{published}'"
    return (
        f"port {published}/{protocol} of the node is taken by {by}; "
        f"choose another published port, or free it (there, `{show}` shows who has it)"
    )
