"""kubectl changes a cluster: apply, patch, scale, label, edit, delete, and all that goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from tests.cluster.harness import Cluster, until
from tests.kubectl.harness import Document, Kubectl, manifests, service


def config(name: str, **labels: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "data": {"a": "1"},
    }


def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    document = service("applied", replicas=1, env={"A": "1", "B": "2"})
    assert kubectl.apply(document) == "service.skep.dev/applied created\n"
    assert kubectl.apply(document) == "service.skep.dev/applied unchanged\n"
    del document["spec"]["template"]["env"]["B"]
    assert kubectl.apply(document) == "service.skep.dev/applied configured\n"
    live = kubectl.object("svc", "applied")
    assert live["spec"]["template"]["env"] == {"A": "1"}
    assert live["metadata"]["generation"] == 2


def test_apply_of_several_kinds(kubectl: Kubectl) -> None:
    namespace = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    secret = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "password", "namespace": "shop"},
        "stringData": {"value": "correct horse"},
    }
    said = kubectl.apply(namespace, secret)
    assert said.splitlines() == [
        "namespace.skep.dev/shop created",
        "secret.skep.dev/password created",
    ]
    shown = kubectl("get", "secret", "password", "-n", "shop", "-o", "yaml")
    assert "correct horse" not in shown
    assert "Y29ycmVjdCBob3JzZQ" not in shown
    kubectl("delete", "namespace", "shop")


def test_apply_with_a_mistake(kubectl: Kubectl) -> None:
    document = service("wrong")
    document["spec"]["replica"] = 3
    said = kubectl.fails("apply", "-f", "-", stdin=manifests(document))
    assert "spec.replica: unknown field" in said
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=manifests(document))
    assert warned.returncode == 0
    assert warned.stderr.startswith("Warning: spec.replica: unknown field; did you mean replicas?")
    assert "replica" not in kubectl.object("svc", "wrong")["spec"].keys() - {"replicas"}
    silent = kubectl.run("apply", "--validate=ignore", "-f", "-", stdin=manifests(document))
    assert (silent.returncode, silent.stderr) == (0, "")


def test_apply_dry_run(kubectl: Kubectl) -> None:
    said = kubectl.apply(service("dry"), words=("--dry-run=server",))
    assert said == "service.skep.dev/dry created (server dry run)\n"
    kubectl.fails("get", "svc", "dry")


def test_apply_server_side_with_a_conflict(kubectl: Kubectl) -> None:
    document = service("shared", replicas=2)
    kubectl.apply(document, words=("--server-side",))
    kubectl("patch", "svc", "shared", "--type=merge", "-p", '{"spec":{"replicas":5}}')
    said = kubectl.fails("apply", "--server-side", "-f", "-", stdin=manifests(document))
    assert 'Apply failed with 1 conflict: with "kubectl-patch": .spec.replicas' in said
    assert kubectl.object("svc", "shared")["spec"]["replicas"] == 5
    kubectl.apply(document, words=("--server-side", "--force-conflicts"))
    assert kubectl.object("svc", "shared")["spec"]["replicas"] == 2


def test_apply_server_side_by_two(kubectl: Kubectl) -> None:
    """One sets the image, another the replicas; what one lets go of, goes."""
    kubectl.apply(service("both", replicas=None), words=("--server-side", "--field-manager=one"))
    scaler = service("both", replicas=3)
    del scaler["spec"]["template"]
    kubectl.apply(scaler, words=("--server-side", "--field-manager=two"))
    live = kubectl.object("svc", "both", "--show-managed-fields")
    assert (live["spec"]["replicas"], live["spec"]["template"]["image"]) == (3, "demo/web:1")
    managers = {entry["manager"]: entry["operation"] for entry in live["metadata"]["managedFields"]}
    assert managers == {"one": "Apply", "two": "Apply"}
    labelled = service("both", replicas=None)
    labelled["metadata"]["labels"] = {"app": "both"}
    del labelled["spec"]
    kubectl.apply(labelled, words=("--server-side", "--field-manager=two"))
    live = kubectl.object("svc", "both")
    assert live["spec"]["replicas"] == 1
    assert live["metadata"]["labels"] == {"app": "both"}


def test_apply_server_side_after_apply(kubectl: Kubectl) -> None:
    """kubectl moves what it applied in the old way into its new book: no conflict with itself."""
    document = service("moved", replicas=2, env={"A": "1"})
    kubectl.apply(document)
    document["spec"]["replicas"] = 3
    del document["spec"]["template"]["env"]
    kubectl.apply(document, words=("--server-side",))
    live = kubectl.object("svc", "moved", "--show-managed-fields")
    managers = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert "kubectl-client-side-apply" not in managers
    assert live["spec"]["replicas"] == 3
    assert "env" not in live["spec"]["template"]


def test_diff(kubectl: Kubectl) -> None:
    document = service("differs", replicas=2)
    kubectl.apply(document)
    assert kubectl("diff", "-f", "-", stdin=manifests(document)) == ""
    document["spec"]["replicas"] = 3
    done = kubectl.run("diff", "-f", "-", stdin=manifests(document))
    assert done.returncode == 1
    assert "-  replicas: 2\n+  replicas: 3\n" in done.stdout
    assert kubectl.object("svc", "differs")["spec"]["replicas"] == 2


def test_create(kubectl: Kubectl) -> None:
    said = kubectl("create", "-f", "-", stdin=manifests(service("made", replicas=0)))
    assert said == "service.skep.dev/made created\n"
    said = kubectl.fails("create", "-f", "-", stdin=manifests(service("made", replicas=0)))
    assert "(AlreadyExists)" in said


def test_create_with_a_name_made_up(kubectl: Kubectl) -> None:
    document = config("")
    del document["metadata"]["name"]
    document["metadata"]["generateName"] = "made-"
    said = kubectl("create", "-f", "-", stdin=manifests(document))
    assert said.startswith("config.skep.dev/made-")


def test_replace(kubectl: Kubectl) -> None:
    """What the manifest does not say is gone."""
    before = config("replaced")
    before["data"] = {"a": "1", "b": "2"}
    kubectl.apply(before)
    kubectl("replace", "-f", "-", stdin=manifests(config("replaced")))
    assert kubectl.object("config", "replaced")["data"] == {"a": "1"}


def test_edit(kubectl: Kubectl) -> None:
    kubectl.apply(service("edited", replicas=1))
    editor = "sed -i s/replicas:.1/replicas:\\ 4/"
    assert kubectl("edit", "svc", "edited", KUBE_EDITOR=editor) == (
        "service.skep.dev/edited edited\n"
    )
    assert kubectl.object("svc", "edited")["spec"]["replicas"] == 4


def test_scale(kubectl: Kubectl, cluster: Cluster) -> None:
    kubectl.apply(service("scaled", replicas=1))
    assert kubectl("scale", "svc/scaled", "--replicas=3") == "service.skep.dev/scaled scaled\n"
    # With --current-replicas kubectl insists on the version that it read: let it settle.
    kubectl("wait", "svc/scaled", "--for=jsonpath={.status.running}=3", "--timeout=30s")
    kubectl("wait", "svc/scaled", "--for=condition=Progressing=False", "--timeout=30s")
    kubectl("scale", "svc/scaled", "--replicas=2", "--current-replicas=3")
    cluster.until_running("scaled", 2)
    said = kubectl.fails("scale", "svc/scaled", "--replicas=9", "--current-replicas=3")
    assert "Expected replicas to be 3, was 2" in said
    kubectl("scale", "svc/scaled", "--replicas=0")
    assert kubectl.object("svc", "scaled")["spec"]["replicas"] == 0


def test_scale_of_what_has_no_number(kubectl: Kubectl) -> None:
    document = service("everywhere", replicas=None)
    document["spec"]["mode"] = "global"
    kubectl.apply(document)
    said = kubectl.fails("scale", "svc/everywhere", "--replicas=3")
    assert "service default/everywhere is global" in said


def test_label_and_annotate(kubectl: Kubectl) -> None:
    kubectl.apply(config("noted"))
    kubectl("label", "config", "noted", "app=web")
    kubectl("annotate", "config", "noted", "example.com/owner=shop")
    metadata = kubectl.object("config", "noted")["metadata"]
    assert metadata["labels"] == {"app": "web"}
    assert metadata["annotations"]["example.com/owner"] == "shop"
    said = kubectl.fails("label", "config", "noted", "app=db")
    assert "already has a value" in said
    kubectl("label", "config", "noted", "app-")
    assert "labels" not in kubectl.object("config", "noted")["metadata"]


def test_patch_merge(kubectl: Kubectl) -> None:
    kubectl.apply(config("patched"))
    kubectl("patch", "config", "patched", "--type=merge", "-p", '{"data":{"a":null,"b":"2"}}')
    assert kubectl.object("config", "patched")["data"] == {"b": "2"}


def test_patch_json(kubectl: Kubectl) -> None:
    kubectl.apply(config("stepped"))
    steps = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/b", "value": "2"},
        {"op": "remove", "path": "/data/a"},
    ]
    kubectl("patch", "config", "stepped", "--type=json", "-p", json.dumps(steps))
    assert kubectl.object("config", "stepped")["data"] == {"b": "2"}
    said = kubectl.fails("patch", "config", "stepped", "--type=json", "-p", json.dumps(steps))
    assert "step 0 of the patch, test /data/a" in said


def test_patch_strategic_is_refused(kubectl: Kubectl) -> None:
    kubectl.apply(config("strategic"))
    said = kubectl.fails("patch", "config", "strategic", "-p", '{"data":{"b":"2"}}')
    assert "application/merge-patch+json" in said


def test_patch_of_a_status(kubectl: Kubectl) -> None:
    kubectl.apply(service("reported", replicas=0))
    patch = '{"status":{"revision":"other"},"spec":{"replicas":7}}'
    kubectl("patch", "svc", "reported", "--subresource=status", "--type=merge", "-p", patch)
    assert kubectl.object("svc", "reported")["spec"]["replicas"] == 0


def test_delete_waits_until_it_is_gone(kubectl: Kubectl) -> None:
    kubectl.apply(service("gone", replicas=2))
    assert kubectl("delete", "svc", "gone") == 'service.skep.dev "gone" deleted\n'
    kubectl.fails("get", "svc", "gone")
    assert kubectl("delete", "svc", "gone", "--ignore-not-found") == ""


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_delete_cascades(kubectl: Kubectl, cluster: Cluster, cascade: str) -> None:
    kubectl.apply(service("cascade", replicas=2))
    cluster.until_running("cascade", 2)
    kubectl("delete", "svc", "cascade", f"--cascade={cascade}")
    until(lambda: not cluster.tasks("cascade"), "its tasks are gone")


def owned(kubectl: Kubectl, name: str) -> Document:
    """A config that belongs to another one, which is made here."""
    kubectl.apply(config(f"{name}-owner"))
    owner = kubectl.object("config", f"{name}-owner")
    document = config(name)
    document["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "skep.dev/v1",
            "kind": "Config",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
    ]
    kubectl.apply(document)
    return document


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_delete_takes_along_what_it_owns(kubectl: Kubectl, cascade: str) -> None:
    owned(kubectl, "part")
    kubectl("delete", "config", "part-owner", f"--cascade={cascade}")
    kubectl("wait", "--for=delete", "config/part", "--timeout=20s")


def test_delete_in_the_foreground_ends_after_what_it_owns(kubectl: Kubectl) -> None:
    document = owned(kubectl, "last")
    document["metadata"]["finalizers"] = ["example.com/backup"]
    kubectl.apply(document)
    kubectl("delete", "config", "last-owner", "--cascade=foreground", "--wait=false")
    deleted = "jsonpath={.metadata.deletionTimestamp}"
    kubectl("wait", "config/last", f"--for={deleted}", "--timeout=20s")
    assert kubectl("get", "config", "last-owner", "-o", "name")
    kubectl("patch", "config", "last", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", "--for=delete", "config/last-owner", "--timeout=20s")


def test_delete_lets_go_of_what_it_owns(kubectl: Kubectl) -> None:
    owned(kubectl, "free")
    kubectl("delete", "config", "free-owner", "--cascade=orphan")
    assert "ownerReferences" not in kubectl.object("config", "free")["metadata"]


def test_delete_dry_run(kubectl: Kubectl) -> None:
    kubectl.apply(config("stays"))
    kubectl("delete", "config", "stays", "--dry-run=server")
    assert kubectl("get", "config", "stays", "-o", "name")


def test_delete_selected(kubectl: Kubectl) -> None:
    kubectl.apply(config("one", set="x"), config("two", set="x"))
    said = kubectl("delete", "config", "-l", "set=x")
    assert sorted(said.split('"')[1::2]) == ["one", "two"]


def test_delete_held_by_a_finalizer(kubectl: Kubectl) -> None:
    held = config("held")
    held["metadata"]["finalizers"] = ["example.com/backup"]
    kubectl.apply(held)
    kubectl("delete", "config", "held", "--wait=false")
    assert kubectl.object("config", "held")["metadata"]["deletionTimestamp"]
    waiting = kubectl.start("wait", "--for=delete", "config/held", "--timeout=30s")
    kubectl("patch", "config", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    _, error = waiting.communicate(timeout=40)
    assert waiting.returncode == 0, error


def applyset_id(name: str) -> str:
    """As KEP 3659 has it: kubectl refuses a parent with another."""
    digest = hashlib.sha256(f"{name}.default.Config.skep.dev".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def test_apply_prune_with_an_applyset(kubectl: Kubectl) -> None:
    """What is no longer in the set is pruned; what never was in it stays."""
    parent = config("shop-set", **{"applyset.kubernetes.io/id": applyset_id("shop-set")})
    parent["metadata"]["annotations"] = {
        "applyset.kubernetes.io/tooling": "kubectl/v1.32",
        "applyset.kubernetes.io/contains-group-kinds": "",
    }
    kubectl("create", "-f", "-", stdin=manifests(parent))
    words = ("--prune", "--applyset=configs.skep.dev/shop-set", "--namespace=default")
    kubectl.apply(config("outside"))
    both = manifests(config("kept"), config("pruned"))
    kubectl("apply", "-f", "-", *words, stdin=both, KUBECTL_APPLYSET="true")
    said = kubectl(
        "apply", "-f", "-", *words, stdin=manifests(config("kept")), KUBECTL_APPLYSET="true"
    )
    assert "config.skep.dev/pruned pruned" in said
    left = kubectl("get", "configs", "-o", "name").split()
    assert {"config.skep.dev/kept", "config.skep.dev/outside"} <= set(left)
    assert "config.skep.dev/pruned" not in left
