"""The cache finds objects by name and by owner, whatever became of them before."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from hypothesis import given
from hypothesis import strategies as st

from tunefleet.kube.cache import Cache, Name


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    owner_uid: str | None
    namespace: str = "n"
    uid: str = "u"
    resource_version: str = "1"

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpacked(cls, body: bytes) -> Thing:
        return cls(**json.loads(body))


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["gone", None, "one", "two"])))
)
def test_owners_and_names_agree_after_any_changes(steps: list[tuple[str, str | None]]) -> None:
    cache: Cache[Thing] = Cache()
    true: dict[str, Thing] = {}
    for name, owner in steps:
        known = true.get(name)
        if owner == "gone":
            assert cache.drop(Name("n", name)) == known
            true.pop(name, None)
        else:
            assert cache.put(Thing(name, owner)) == known
            true[name] = Thing(name, owner)
    assert sorted(cache.all(), key=lambda thing: thing.name) == [true[n] for n in sorted(true)]
    assert {name.name for name in cache} == true.keys()
    assert len(cache) == len(true)
    assert all(cache.get("n", name) == true.get(name) for name in "abc")
    for owner in ("one", "two"):
        assert cache.owned_by(owner) == [
            true[n] for n in sorted(true) if true[n].owner_uid == owner
        ]


def test_a_name_is_looked_for_in_its_namespace_alone() -> None:
    cache: Cache[Thing] = Cache()
    cache.put(Thing("a", None))
    assert cache.get("elsewhere", "a") is None


def test_the_very_version_that_is_kept_is_known() -> None:
    cache: Cache[Thing] = Cache()
    kept = Thing("a", None, uid="one", resource_version="7")
    cache.put(kept)
    assert cache.holds(kept)
    assert not cache.holds(Thing("a", None, uid="one", resource_version="8"))
    assert not cache.holds(Thing("a", None, uid="another", resource_version="7"))
    assert not cache.holds(Thing("b", None, uid="one", resource_version="7"))
