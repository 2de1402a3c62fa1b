"""Plans and what comes of them, whatever happens in whatever order: nothing is made for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from api.generate.making import authority
from api.pki.certificates import SKEW, Issuer
from api.types.generated import Certificate, Generate, Generated, Rotation, SshKey, keys_of
from api.types.meta import Metadata
from api.types.secret import ROTATE, Secret, SecretStatus
from controllers.generator.plan import TOLERANCE, Plan, Why, plan, same
from controllers.generator.times import due, spread
from controllers.generator.work import Issuers, carry_out

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a", "b", "tls")
TEXTS = [Generate(), Generate(length=40), Generate(bytes=16), Generate(ssh=SshKey())]
CERTIFICATES = [
    Generate(x509=Certificate(ca="ca", lifetime="90d")),
    Generate(x509=Certificate(ca="ca", lifetime="30d", dns_names=["db"])),
    Generate(x509=Certificate(lifetime="90d", renew_before="10d")),
]
AUTHORITY = {"ca": Generate(x509=Certificate(is_ca=True, lifetime="1000d"))}
ROTATIONS = [None, Rotation(every="20d"), Rotation(cron="0 3 1 * *")]


class Toy:
    """Two secrets, one the other's authority; written as the API server and the generator do."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.data: dict[str, dict[str, bytes]] = {"ca": {}, "db": {}}
        self.secrets = {
            name: Secret(
                metadata=Metadata(name=name, namespace="default", uid=f"uid-{name}"),
                generate=AUTHORITY if name == "ca" else {},
            )
            for name in ("ca", "db")
        }

    def plan(self, name: str) -> Plan:
        def marks(other: str) -> str | None:
            version = self.secrets[other].status.version
            return f"uid-{other}/{version}" if version else None

        ids = {each.issuer for each in self.secrets["ca"].status.generated.values()}
        followed = all(
            each.issuer in ids
            for each in self.secrets["db"].status.generated.values()
            if each.spec.x509 is not None and each.spec.x509.ca
        )
        made = plan(self.secrets[name], self.now, marks, followed=followed)
        made.compared(self.secrets[name], {name: each.id for name, each in self.issuers().items()})
        return made

    def issuers(self) -> dict[str, Issuer]:
        there = self.secrets["ca"].status.version
        return {"ca": authority(AUTHORITY, self.data["ca"])} if there else {}

    def step(self, name: str, *, crash: bool = False) -> dict[str, Why]:
        """One round of the generator's for one secret. A crash comes before anything is written."""
        wanted = self.plan(name)
        if wanted.idle:
            return {}
        secret = self.secrets[name]
        marks = {"ca": f"uid-ca/{self.secrets['ca'].status.version}"}
        issuers = Issuers(self.issuers(), marks, {})
        outcome = carry_out(secret, wanted, self.data[name], issuers, self.now)
        if crash:
            return {}
        assert outcome.problems == []
        status = outcome.status
        if outcome.data != self.data[name]:
            status.version = secret.status.version + 1
            status.sizes = {key: len(value) for key, value in outcome.data.items()}
            status.generated = {
                each: msgspec.structs.replace(known, version=status.version)
                for each, known in status.generated.items()
            }
        self.data[name] = outcome.data
        self.secrets[name] = msgspec.structs.replace(secret, status=status)
        return outcome.made

    def settle(self) -> dict[str, dict[str, Why]]:
        """Until there is nothing to do; what was made."""
        made: dict[str, dict[str, Why]] = {"ca": {}, "db": {}}
        for _ in range(8):
            for name in ("ca", "db"):
                done = self.step(name)
                again = made[name].keys() & done.keys()
                assert not again, f"{again} made twice for one reason"
                made[name] |= done
        assert self.plan("ca").idle and self.plan("db").idle
        return made

    def ask(self, wanted: dict[str, Generate], rotation: Rotation | None) -> None:
        """As the API server: what is not asked for goes with its keys."""
        old = self.secrets["db"]
        kept = {n: each for n, each in old.status.generated.items() if n in wanted}
        keys = {key for each in kept.values() for key in each.keys}
        self.data["db"] = {k: v for k, v in self.data["db"].items() if k in keys}
        sizes = {key: len(value) for key, value in self.data["db"].items()}
        status = msgspec.structs.replace(old.status, generated=kept, sizes=sizes)
        self.secrets["db"] = msgspec.structs.replace(
            old, generate=wanted, rotation=rotation, status=status
        )

    def rotate(self, name: str) -> None:
        secret = self.secrets[name]
        secret.metadata.annotations = {ROTATE: str(secret.status.version)}


WANTED = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from(TEXTS),
        "b": st.sampled_from(TEXTS),
        "tls": st.sampled_from(CERTIFICATES),
    },
)
EVENTS = st.one_of(
    st.tuples(st.just("ask"), WANTED, st.sampled_from(ROTATIONS)),
    st.tuples(st.just("rotate"), st.sampled_from(["ca", "db"]), st.none()),
    st.tuples(st.just("pass"), st.integers(0, 100), st.none()),
    st.tuples(st.just("crash"), st.sampled_from(["ca", "db"]), st.none()),
)


@settings(max_examples=20, deadline=None)
@given(events=st.lists(EVENTS, max_size=6))
def test_whatever_happens_all_is_there_and_only_what_had_a_reason_is_new(
    events: list[tuple[str, object, object]],
) -> None:
    toy = Toy()
    toy.settle()
    for what, one, two in events:
        before, was = dict(toy.data["db"]), toy.secrets["db"]
        if what == "ask":
            toy.ask(one, two)  # type: ignore[arg-type]
        elif what == "rotate":
            toy.rotate(str(one))
        elif what == "pass":
            toy.now += timedelta(days=int(str(one)))
        else:
            toy.rotate(str(one))
            toy.step(str(one), crash=True)
        made = toy.settle()["db"]
        secret = toy.secrets["db"]
        # All is there, nothing else is, and no two of what was there are mixed.
        expected = {key for n, each in secret.generate.items() for key in keys_of(n, each)}
        assert set(toy.data["db"]) == expected
        for name, known in secret.status.generated.items():
            assert same(known.spec, secret.generate[name])
            if name in made:
                continue
            private = [name, f"{name}.key"]
            assert all(toy.data["db"].get(k) == before.get(k) for k in private)
            assert known.made == was.status.generated[name].made
        # A certificate is good, and of the authority that is there.
        tls = secret.status.generated.get("tls")
        if tls is not None and tls.not_after is not None:
            assert tls.not_after > toy.now
            if tls.spec.x509 is not None and tls.spec.x509.ca:
                assert tls.issuer == toy.issuers()["ca"].id


@given(
    wanted=st.sampled_from(CERTIFICATES),
    rotation=st.sampled_from(ROTATIONS),
    life=st.integers(600, 10 * 365 * 86400),
    uid=st.uuids(),
)
def test_a_value_is_due_while_it_is_still_good_and_not_at_once(
    wanted: Generate, rotation: Rotation | None, life: int, uid: object
) -> None:
    ends = EPOCH + timedelta(seconds=life)
    known = Generated(spec=wanted, made=EPOCH, not_before=EPOCH - SKEW, not_after=ends)
    time = due(known, rotation, str(uid), "tls")
    assert time is not None
    assert EPOCH < time < ends
    if rotation is None:
        assert time >= EPOCH + timedelta(seconds=life * 0.3)
    assert 0 <= spread(str(uid), "tls") < 1


def test_what_is_only_about_renewal_makes_nothing_anew() -> None:
    one = Generate(x509=Certificate(ca="ca", renew_before="1d"))
    assert same(one, Generate(x509=Certificate(ca="ca")))
    assert not same(one, Generate(x509=Certificate(ca="ca", dns_names=["db"])))


def test_a_status_of_a_newer_field_that_is_not_given_is_the_same() -> None:
    """What was made from is kept without defaults, and read with today's."""
    stored = msgspec.json.encode(Generate(length=30))
    assert stored == b'{"length":30}'
    assert same(msgspec.json.decode(stored, type=Generate), Generate(length=30))


def test_a_little_skew_is_no_future() -> None:
    known = Generated(spec=Generate(), keys=["a"], made=EPOCH + TOLERANCE - timedelta(minutes=1))
    status = SecretStatus(generated={"a": known})
    secret = Secret(metadata=Metadata(uid="u"), generate={"a": Generate()}, status=status)
    assert plan(secret, EPOCH, lambda _: None).idle
    known.made = EPOCH + TOLERANCE + timedelta(minutes=1)
    assert plan(secret, EPOCH, lambda _: None).redate == ["a"]
