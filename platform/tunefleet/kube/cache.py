"""What is known of a kind's objects: small projections, found by name or by owner.

Decides what is kept, which is what the projection keeps and nothing of the object itself, and
that as bytes: a model of a few fields is some tens of kilobytes of Python objects, and there are
tens of thousands of them, of which hardly any is looked at. Written by a reflector alone. Imports
the standard library.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, Self, TypeVar


class Name(NamedTuple):
    """Where an object is found. An object of a kind without namespaces has the empty one."""

    namespace: str
    name: str


class Cached(Protocol):
    """What every projection knows of its object. ``owner_uid`` is its controller's, if any.

    :meth:`packed` is what is kept, and :meth:`unpacked` makes an equal projection of it.
    """

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...
    @property
    def owner_uid(self) -> str | None: ...
    def packed(self) -> bytes: ...
    @classmethod
    def unpacked(cls, body: bytes) -> Self: ...


T = TypeVar("T", bound=Cached)


class _Kept(NamedTuple, Generic[T]):
    projection: type[T]
    resource_version: str
    body: bytes

    def unpacked(self) -> T:
        return self.projection.unpacked(self.body)


class Cache(Generic[T]):
    """The objects of one kind. ``synced`` is set once the first list was read to its end."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self._objects: dict[Name, _Kept[T]] = {}
        # Most owners have one or two: a set would weigh more than what it holds.
        self._owned: dict[str, tuple[Name, ...]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Name]:
        return iter(list(self._objects))

    def get(self, namespace: str, name: str) -> T | None:
        """The object of that name, if there is one."""
        kept = self._objects.get(Name(namespace, name))
        return kept.unpacked() if kept is not None else None

    def all(self) -> list[T]:
        """Every object."""
        return [kept.unpacked() for kept in self._objects.values()]

    def owned_by(self, uid: str) -> list[T]:
        """The objects whose controller has that uid, by name."""
        return [self._objects[name].unpacked() for name in self._owned.get(uid, ())]

    def holds(self, item: T) -> bool:
        """Whether this very version of the object is what is kept."""
        kept = self._objects.get(Name(item.namespace, item.name))
        if kept is None or kept.resource_version != item.resource_version:
            return False
        # After a restore of the server's store a version may come twice, for different objects.
        return kept.unpacked().uid == item.uid

    def put(self, item: T) -> T | None:
        """Keep an object; what was kept under its name before."""
        name = Name(sys.intern(item.namespace), item.name)
        old = self.drop(name)
        self._objects[name] = _Kept(type(item), item.resource_version, item.packed())
        if (owner := item.owner_uid) is not None:
            self._owned[owner] = tuple(sorted((*self._owned.get(owner, ()), name)))
        return old

    def drop(self, name: Name) -> T | None:
        """Forget an object; what was kept of it."""
        kept = self._objects.pop(name, None)
        if kept is None:
            return None
        old = kept.unpacked()
        if old.owner_uid is not None:
            others = tuple(each for each in self._owned[old.owner_uid] if each != name)
            if others:
                self._owned[old.owner_uid] = others
            else:
                del self._owned[old.owner_uid]
        return old
