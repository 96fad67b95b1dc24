"""Values that an object works out once, when they are first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")


class once(Generic[T]):
    """`functools.cached_property` without its lock, as Python has it from 3.12 on.

    That lock is one for all objects of a class, and is held while the value is worked out. A process forked meanwhile
    would wait for it for ever. Of two threads that ask first at the same time, each works it out.
    """

    def __init__(self, work_out: Callable[[Any], T]) -> None:
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, one: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, one: object, owner: type | None = None) -> T: ...

    def __get__(self, one: object | None, owner: type | None = None) -> Self | T:
        """Work it out; from then on Python finds it in the object itself, and does not come here."""
        if one is None:
            return self
        return one.__dict__.setdefault(self._name, self._work_out(one))  # type: ignore[no-any-return]
