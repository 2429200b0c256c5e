"""Owning file descriptors."""

import os
import warnings
from types import TracebackType
from typing import Self


class Fd:
    """A file descriptor with exactly one owner, closed when the owner is done.

    Usable as a context manager. Dropping an open Fd closes it with a ResourceWarning, so that a leak is
    seen in tests. All descriptors the kernel hands out through bpf(2) are close-on-exec.
    """

    __slots__ = ("_value",)

    def __init__(self, value: int) -> None:
        self._value = value

    def fileno(self) -> int:
        """The number; raises ValueError once closed."""
        if self._value < 0:
            raise ValueError("file descriptor is closed")
        return self._value

    @property
    def closed(self) -> bool:
        return self._value < 0

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        value, self._value = self._value, -1
        if value >= 0:
            os.close(value)

    def detach(self) -> int:
        """Give the number away: the caller owns it from here on."""
        value = self.fileno()
        self._value = -1
        return value

    def duplicate(self) -> "Fd":
        """A second descriptor of the same kernel object."""
        return Fd(os.dup(self.fileno()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_value", -1) >= 0:
            warnings.warn(
                f"file descriptor {self._value} was dropped open", ResourceWarning, stacklevel=2
            )
            self.close()

    def __repr__(self) -> str:
        return "Fd(closed)" if self.closed else f"Fd({self._value})"
