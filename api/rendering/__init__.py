"""Files made from secrets: what their text may say, what it names, and what becomes of it.

The text is a user's, its values are secrets, and it is rendered by the agent, which is root on its
node. So there are three walls, each of which would do:

    the language   `language`: Jinja2's text is parsed and its tree looked through, part by part.
                   What is not on the list (loops, calls, assignments, imports, attributes) is
                   refused on the way in. What is left names secrets and fields, and every one of
                   these becomes a plain variable: at rendering there is no object whose attributes
                   could lead anywhere.
    the sandbox    `rendering`: Jinja2's immutable sandbox without a loader, with strict undefined
                   values and the filters named here alone.
    the process    `controllers.agent.renderer`: a process for each rendering, without files, with
                   bounds on time and memory.

Importing this costs nothing: Jinja2 comes with the first text that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.types.template import NONE, SecretMount, TaskTemplate

CONTENT_MAX = 65_536  # characters, as schemas/v1/template.json says

__all__ = [
    "CONTENT_MAX",
    "delivered",
    "followed_secrets",
    "needed",
    "pinned_secrets",
    "secret_names",
]


def needed(template: TaskTemplate) -> list[SecretMount]:
    """Every secret that a task of this template waits for, with the key where one is named."""
    return [*delivered(template), *_login(template)]


def delivered(template: TaskTemplate) -> list[SecretMount]:
    """Those that its container is given, in whatever way."""
    return [
        *template.secrets,
        *(SecretMount(name=each.secret, key=each.key) for each in template.secret_env.values()),
        *_rendered(template),
    ]


def pinned_secrets(template: TaskTemplate) -> frozenset[str]:
    """Secrets of which a task keeps the version that its revision names."""
    return frozenset(mount.name for mount in needed(template) if not mount.swapped)


def followed_secrets(template: TaskTemplate) -> frozenset[str]:
    """Secrets of which a task is given the newest version, whenever there is one."""
    return frozenset(mount.name for mount in needed(template) if mount.swapped)


def secret_names(template: TaskTemplate) -> frozenset[str]:
    """The secrets that a node needs for a task of this template: these, and no others."""
    return frozenset(mount.name for mount in needed(template))


def _login(template: TaskTemplate) -> list[SecretMount]:
    name = template.image_credentials
    return [SecretMount(name=name, on_change=NONE)] if name else []


def _rendered(template: TaskTemplate) -> Iterator[SecretMount]:
    if not template.secret_files:
        return
    from api.rendering.language import Wrong, program

    for file in template.secret_files:
        try:
            references = program(file.content).references
        except Wrong:  # stored before it was refused: the agent says so of its task
            continue
        for reference in references:
            yield SecretMount(
                name=reference.secret, key=reference.needed_key, on_change=file.on_change
            )
