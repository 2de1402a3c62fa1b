"""Secrets as users have them in containers: files made from several, and variables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, service, until
from tests.cluster.test_template import Inside, secret

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

CONTENT = """\
[database]
url = postgres://{{ secrets.db.user }}:{{ secrets["db"]["password"] | urlencode }}@db/shop
{% if secrets["db"].replica is defined %}
replica = {{ secrets["db"].replica }}
{% endif %}
[api]
key = {{ secrets["api-key"] }}
[about]
at = {{ node.name }} {{ service.namespace }}/{{ service.name }} {{ task.name }} {{ task.slot }}
"""


@pytest.fixture(scope="module")
def task(cluster: Cluster) -> Iterator[Inside]:
    """One with all sorts of deliveries, which was applied before the last of its secrets was."""
    cluster.apply(secret("db", user="shop", password="p@ss word"))
    app = service(
        "app",
        secretFiles=[
            {"target": "app.ini", "content": CONTENT, "uid": 1000, "gid": 999, "mode": "0440"},
            {"target": "/etc/app/token", "content": "{{ secrets['api-key']|b64encode }}"},
        ],
        secretEnv={"DB_PASSWORD": {"secret": "db", "key": "password"}},
        secrets=[{"name": "api-key"}],
    )
    said = cluster.apply(app).stderr
    assert "secret default/api-key does not exist yet; tasks will wait for it" in said
    assert "warning" in said.lower()
    assert "secretEnv DB_PASSWORD: the value of secret db will be in the open" in said

    def waits() -> bool:
        return "default/api-key, which does not exist" in json.dumps(cluster.tasks("app"))

    until(waits, "the task says what it waits for")
    cluster.apply(secret("api-key", value="k-1234"))
    (task,) = cluster.until_running("app", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "app", check=False)
    until(lambda: not cluster.running_of("app", every=True), "its container is gone")


def test_several_secrets_and_fields_become_one_file(cluster: Cluster, task: Inside) -> None:
    name = task.task["metadata"]["name"]
    assert task.run("cat /run/secrets/app.ini").splitlines() == [
        "[database]",
        "url = postgres://shop:p%40ss%20word@db/shop",
        "[api]",
        "key = k-1234",
        "[about]",
        f"at = {cluster.node} default/app {name} 1",
    ]
    assert task.run("cat /etc/app/token") == "ay0xMjM0"


def test_it_is_kept_as_secrets_are(cluster: Cluster, task: Inside) -> None:
    assert task.mode("/run/secrets/app.ini") == "440 1000 999"
    assert task.mode("/etc/app/token") == "444 0 0"
    for path in ("/run/secrets", "/etc/app/token"):
        _, _, kind, options = task.mount(path)[:4]
        assert kind == "tmpfs"
        assert "ro" in options.split(",")
    assert task.run("echo x 2>/dev/null >/etc/app/token || echo refused") == "refused"


def test_a_variable_is_in_the_environment_and_in_the_engine_as_warned(
    cluster: Cluster, task: Inside
) -> None:
    assert task.environment()["DB_PASSWORD"] == "p@ss word"
    assert "DB_PASSWORD=p@ss word" in task.engine["Config"]["Env"]


def test_nothing_else_shows_the_values(cluster: Cluster, task: Inside) -> None:
    """Not the objects, nor events, nor logs; the text is there for all to read."""
    shown = [
        cluster.ctl("get", "services,revisions,tasks,events,secrets", "-o", "yaml").stdout,
        cluster.ctl("describe", "service", "app").stdout,
        cluster.log("agent"),
        cluster.log("manager"),
    ]
    assert "secretEnv" in shown[0]
    assert "urlencode" in shown[0]
    for text in shown:
        for value in ("p@ss word", "p%40ss", "k-1234", "ay0xMjM0"):
            assert value not in text


def test_a_new_version_comes_as_the_file_says(cluster: Cluster) -> None:
    """Made anew in place, then a signal; or by a new container."""
    cluster.apply(secret("moving", value="first"))
    content = "<{{ secrets.moving }}> {{ task.name }}"
    script = "trap 'cp /run/secrets/made /tmp/seen' HUP; trap 'exit 0' TERM; "
    script += "while true; do sleep 100000 & wait; done"
    stays = service(
        "stays",
        secretFiles=[{"target": "made", "content": content, "onChange": {"signal": "SIGHUP"}}],
    )
    stays["spec"]["template"]["command"] = ["sh", "-c", script]
    rolls = service("rolls", secretFiles=[{"target": "made", "content": content}])
    cluster.apply(stays, rolls)
    (before,) = cluster.until_running("stays", 1)
    (rolled,) = cluster.until_running("rolls", 1)
    assert Inside(cluster, before).run("cat /run/secrets/made").startswith("<first> stays-")
    cluster.apply(secret("moving", value="second"))
    inside = Inside(cluster, before)

    def seen() -> bool:
        return inside.run("cat /tmp/seen 2>/dev/null || true").startswith("<second> stays-")

    until(seen, "the container was told, and has read the new file")
    assert inside.mode("/run/secrets/made") == "444 0 0"
    assert [task["metadata"]["name"] for task in cluster.tasks("stays")] == [
        before["metadata"]["name"]
    ]

    def replaced() -> bool:
        tasks = cluster.tasks("rolls", "Running")
        if len(tasks) != 1 or tasks[0]["metadata"]["name"] == rolled["metadata"]["name"]:
            return False
        return Inside(cluster, tasks[0]).run("cat /run/secrets/made").startswith("<second> ")

    until(replaced, "the other has a new task with the new version")
    cluster.ctl("delete", "service", "stays", "rolls")


def test_a_file_that_does_not_come_out_rejects_its_task_in_words(cluster: Cluster) -> None:
    cluster.apply(secret("two", a="canary-a", b="canary-b"))
    wrong = {
        "wrong-whole": ("{{ secrets.two }}", 'secrets["two"] is one of several keys (a, b)'),
        "wrong-base64": ("{{ secrets.two.a|b64decode }}", "b64decode was given what is not base64"),
        "wrong-size": (
            "{{ secrets.two.a|replace('c', '" + "x" * 9_000 + "') }}" * 7
            + "{{ secrets.two.a|replace('a', 'a' ~ secrets.two.b)|replace('-', '" + "y" * 900 + "')"
            + "|replace('y', '" + "z" * 500 + "') }}",
            "is larger than 512000 bytes, the most that is allowed",
        ),
    }  # fmt: skip
    cluster.apply(
        *(
            service(name, secretFiles=[{"target": "f", "content": content}])
            for name, (content, _) in wrong.items()
        )
    )

    def said() -> set[str]:
        rejected = [
            task for task in cluster.items("tasks") if task["status"]["state"] == "Rejected"
        ]
        return {
            task["spec"]["service"]
            for task in rejected
            if f"secret file /run/secrets/f: {wrong[task['spec']['service']][1]}"
            in task["status"]["error"]
        }

    try:
        until(lambda: said() == set(wrong), "each is rejected in words")
        assert "canary" not in json.dumps(cluster.items("tasks"))
    finally:
        cluster.ctl("delete", "service", *wrong)


def test_what_is_no_text_of_ours_is_refused_with_its_place(cluster: Cluster) -> None:
    done = cluster.apply(
        service(
            "refused",
            secretFiles=[{"target": "f", "content": "ok\n{% include '/etc/shadow' %}"}],
            env={"A": "1"},
            secretEnv={"A": {"secret": "db"}},
        ),
        check=False,
    )
    assert done.returncode
    field = "spec.template.secretFiles[0].content"
    assert f"{field}: line 2: includes can't be used here" in done.stderr
    assert 'spec.template.secretEnv.A: "A" is in env too' in done.stderr


def test_files_leave_the_node_with_their_task(cluster: Cluster) -> None:
    """Last in this file."""

    def held() -> list[Path]:
        files = [path for path in (cluster.home / "run").rglob("*") if path.is_file()]
        return [path for path in files if b"k-1234" in path.read_bytes()]

    assert held()
    cluster.ctl("delete", "service", "app")
    until(lambda: not held(), "the node holds it no more")
