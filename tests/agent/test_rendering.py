"""Files made from secrets, in the process that makes them: within bounds, told from the agent."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.rendering.filters import FILTERS
from api.rendering.rendering import render as render_here
from controllers.agent.files import Trouble
from controllers.agent.rendering import Renderer

BIG = b"x" * 512_000


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    it = Renderer()
    yield it
    await it.close()


async def render(it: Renderer, content: str, **secrets: bytes) -> bytes:
    data = {name: {"value": value} for name, value in secrets.items()}
    return await it.render(content, data, {"node.name": "n1", "task.slot": 3})


def pid(it: Renderer) -> int:
    assert it._process is not None
    return it._process.process.pid


async def test_secrets_and_fields_become_one_file(renderer: Renderer) -> None:
    content = "user={{ secrets.a }}\npassword={{ secrets['b'].value }}\nat={{ node.name }}\n"
    made = await render(renderer, content, a=b"me", b=b"p%w\xff\x00")
    assert made == b"user=me\npassword=p%w\xff\x00\nat=n1\n"


async def test_every_filter_works_without_opening_a_file(renderer: Renderer) -> None:
    for name in sorted(FILTERS):
        arguments = {"replace": "('b', 'c')", "default": "('d')"}.get(name, "")
        content = "{{ secrets['b']|" + name + arguments + " }}"
        made = await render(renderer, content, b=b"YWJj")
        assert made == render_here(content, {"b": {"value": b"YWJj"}}, {})


async def test_many_at_once_share_a_process(renderer: Renderer) -> None:
    made = await asyncio.gather(
        *(render(renderer, "{{ secrets.a }}", a=b"%d" % number) for number in range(40))
    )
    assert made == [b"%d" % number for number in range(40)]
    first = pid(renderer)
    await render(renderer, "x")
    assert pid(renderer) == first


async def test_gigabytes_are_stopped(renderer: Renderer) -> None:
    grow = "{{ secrets.a" + '|replace("x", secrets.a)' * 2 + "|length }}"
    with pytest.raises(Trouble, match=r"too much memory|takes more than 2 s or 128 MiB"):
        await render(renderer, grow, a=BIG)
    with pytest.raises(Trouble, match="is larger than 512000 bytes, the most that is allowed"):
        await render(renderer, "{{ secrets.a }}" * 1000, a=BIG)
    assert await render(renderer, "{{ secrets.a }}", a=BIG) == BIG
    with pytest.raises(Trouble, match="larger than 512000"):
        await render(renderer, "{{ secrets.a }}y", a=BIG)


async def test_what_takes_long_is_stopped(renderer: Renderer) -> None:
    """There are no loops, but much can be written down: some 25 GB of text to be changed."""
    slow = ("{{ secrets.a" + "|upper|lower" * 25 + "|length }}") * 180
    with pytest.raises(Trouble, match="takes more than 2 s or 128 MiB to render"):
        await render(renderer, slow, a=BIG)
    assert await render(renderer, "{{ task.slot }}") == b"3"


ASTRAY = [
    "{{ secrets.a.__class__.__mro__ }}",
    "{{ ''.__class__ }}",
    "{{ secrets.a|attr('__class__') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__ }}",
    "{{ range(10**10)|list }}",
    "{% for x in [1] %}{{ loop }}{% endfor %}",
    "{{ 'a' * 9999999999 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ environment }}",
    "{{ '%1000000000d'|format(1) }}",
    "{% set x = secrets %}{{ x }}",
]


async def test_what_reaches_anywhere_is_not_evaluated(renderer: Renderer) -> None:
    """Also where it was stored before anybody looked."""
    for content in ASTRAY:
        with pytest.raises(Trouble, match="line 1: "):
            await render(renderer, content, a=b"x")


async def test_trouble_never_quotes_a_value(renderer: Renderer) -> None:
    for content in (
        "{{ secrets.a|b64decode }}",
        "{{ secrets.a|tojson }}",
        "{{ secrets.a > 3 }}",
        "{{ secrets.a|indent(secrets.a) }}",
        "{{ secrets.a.other }}",
        "{{ secrets.a|default(secrets.a, 1, 2, 3) }}",
    ):
        with pytest.raises(Trouble) as trouble:
            await render(renderer, content, a=b"canary-31\xff")
        assert "canary" not in str(trouble.value)


async def test_it_holds_no_secret_no_environment_and_no_rights(renderer: Renderer) -> None:
    os.environ["SKEP_CANARY_OF_TEST"] = "canary-of-environment"
    try:
        await render(renderer, "{{ secrets.a }}", a=b"canary-of-renderer")
    finally:
        del os.environ["SKEP_CANARY_OF_TEST"]
    process = Path(f"/proc/{pid(renderer)}")
    assert b"canary" not in (process / "environ").read_bytes()
    assert b"canary" not in (process / "cmdline").read_bytes()
    limits = (process / "limits").read_text().splitlines()
    (core,) = [line.split() for line in limits if line.startswith("Max core")]
    assert core[4:6] == ["0", "0"]
    if os.geteuid() == 0:
        status = (process / "status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert b"canary-of-renderer" not in memory(process)


def memory(process: Path) -> bytes:
    """All that a process has in memory, as root can read it."""
    found = b""
    with (process / "mem").open("rb", buffering=0) as file:
        for line in (process / "maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if "rw" in rights:
                first, last = (int(each, 16) for each in span.split("-"))
                file.seek(first)
                found += file.read(last - first)
    return found


async def test_one_that_was_killed_is_started_again(renderer: Renderer) -> None:
    await render(renderer, "x")
    first = pid(renderer)
    os.kill(first, signal.SIGKILL)
    assert await render(renderer, "{{ secrets.a }}", a=b"again") == b"again"
    assert pid(renderer) != first


async def test_it_ends_with_the_agent(renderer: Renderer) -> None:
    await render(renderer, "x")
    process = Path(f"/proc/{pid(renderer)}")
    await renderer.close()
    assert not process.exists()  # noqa: ASYNC240
