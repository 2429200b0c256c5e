"""netbpf's ``dataclass`` beside Python's: what both make of the same class bodies cannot be told apart."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from netbpf import values
from netbpf.model import Interface


def made(maker: Callable[..., Callable[[type], type]]) -> list[Any]:
    """Some classes: with defaults, made-up defaults, methods of their own, one field, none, and one that inherits."""

    @maker(frozen=True, slots=True)
    class Plain:
        """Fields."""

        name: str
        number: int = 3
        items: list[int] = dataclasses.field(default_factory=list)

    @maker(frozen=True, slots=True)
    class Derived(Plain):
        """One more, and checks."""

        more: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            if self.number == -1:
                raise ValueError("negative")

    @maker(frozen=True, slots=True)
    class Single:
        """One field."""

        only: object

    @maker(frozen=True, slots=True)
    class Nothing:
        """None."""

    @maker(frozen=True, slots=True)
    class Own:  # noqa: PLW1641 - that is the case
        """What it has itself, it keeps."""

        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        def __repr__(self) -> str:
            return "mine"

    return [Plain, Derived, Single, Nothing, Own]


OURS, THEIRS = made(values.dataclass), made(dataclasses.dataclass)
ARGUMENTS: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
    (0, ("a",), {}),
    (0, ("a", 4, [1]), {}),
    (0, ("a",), {"items": [7]}),
    (1, ("a", 5), {"more": (1, 2)}),
    (2, (float("nan"),), {}),
    (2, ((1, 2),), {}),
    (3, (), {}),
    (4, ("a",), {}),
]


@pytest.mark.parametrize(("which", "positional", "named"), ARGUMENTS)
def test_a_value_behaves_as_a_dataclass_does(
    which: int, positional: tuple[Any, ...], named: dict[str, Any]
) -> None:
    ours, theirs = OURS[which](*positional, **named), THEIRS[which](*positional, **named)
    assert repr(ours) == repr(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert ours == OURS[which](*positional, **named)
    assert ours != theirs
    assert copy.copy(ours) == ours
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert not hasattr(ours, "__dict__")
    for field in dataclasses.fields(theirs):
        other = dataclasses.replace(ours, **{field.name: 99})
        assert repr(other) == repr(dataclasses.replace(theirs, **{field.name: 99}))
        assert (other == ours) == (dataclasses.replace(theirs, **{field.name: 99}) == theirs)
    try:
        expected = hash(theirs)
    except TypeError:
        with pytest.raises(TypeError):
            hash(ours)
    else:
        assert hash(ours) == expected or which == 4


def _refusal(cls: Any, arguments: tuple[str, ...]) -> str:
    """What a TypeError says; nothing for a class that takes the arguments."""
    try:
        cls(*arguments)
    except TypeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("which", range(len(OURS)))
def test_what_it_refuses(which: int) -> None:
    ours, theirs = OURS[which], THEIRS[which]
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert _refusal(ours, ("a",) * 9) == _refusal(theirs, ("a",) * 9)
    assert _refusal(ours, ()) == _refusal(theirs, ())
    one = ours(*["a"][: len(dataclasses.fields(ours))])
    for name in ("name", "only", "unknown"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(one, name)


def test_checks_after_the_start_run() -> None:
    with pytest.raises(ValueError, match="negative"):
        OURS[1]("a", -1)


def test_defaults_are_not_shared() -> None:
    first, second = OURS[0]("a"), OURS[0]("a")
    first.items.append(1)
    assert second.items == []


def test_pickling() -> None:
    one = Interface("eth0", 2, 5)
    assert pickle.loads(pickle.dumps(one)) == one
    assert type(one) is Interface


def test_other_kinds_are_refused() -> None:
    maker: Any = values.dataclass
    with pytest.raises(TypeError):
        maker(frozen=True, slots=False)

    class Late:
        """A field that is no argument."""

        number: int = dataclasses.field(default=1, init=False)

    with pytest.raises(TypeError):
        maker(frozen=True, slots=True)(Late)
