"""What is known of a kind's objects: small projections, found by name or by owner.

Decides what is kept, which is what the projection keeps and nothing of the object itself.
Written by a reflector alone. Imports the standard library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar


class Name(NamedTuple):
    """Where an object is found. An object of a kind without namespaces has the empty one."""

    namespace: str
    name: str


class Cached(Protocol):
    """What every projection knows of its object. ``owner_uid`` is its controller's, if any."""

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


T = TypeVar("T", bound=Cached)


class Cache(Generic[T]):
    """The objects of one kind. ``synced`` is set once the first list was read to its end."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self._objects: dict[Name, T] = {}
        self._owned: dict[str, set[Name]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Name]:
        return iter(list(self._objects))

    def get(self, namespace: str, name: str) -> T | None:
        """The object of that name, if there is one."""
        return self._objects.get(Name(namespace, name))

    def all(self) -> list[T]:
        """Every object."""
        return list(self._objects.values())

    def owned_by(self, uid: str) -> list[T]:
        """The objects whose controller has that uid, by name."""
        return [self._objects[name] for name in sorted(self._owned.get(uid, ()))]

    def put(self, item: T) -> T | None:
        """Keep an object; what was kept under its name before."""
        name = Name(item.namespace, item.name)
        old = self._objects.get(name)
        if old is not None:
            self._disown(name, old)
        self._objects[name] = item
        if item.owner_uid is not None:
            self._owned.setdefault(item.owner_uid, set()).add(name)
        return old

    def drop(self, name: Name) -> T | None:
        """Forget an object; what was kept of it."""
        old = self._objects.pop(name, None)
        if old is not None:
            self._disown(name, old)
        return old

    def _disown(self, name: Name, item: T) -> None:
        if item.owner_uid is None:
            return
        names = self._owned[item.owner_uid]
        names.discard(name)
        if not names:
            del self._owned[item.owner_uid]
