"""Durations as people type them: ``30``, ``30s``, ``5m``, ``1h30m``."""

import re
from typing import TYPE_CHECKING, Final

import click

_FORM: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
SHORTEST: Final = 5  # seconds; nobody sees what happened and types a command in less
LONGEST: Final = 24 * 3600


if TYPE_CHECKING:
    _Parameter = click.ParamType[float]
else:
    _Parameter = click.ParamType  # generic only since click 8.3


class Duration(_Parameter):
    """A time of whole seconds; the parameter is seconds as a float."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse, and refuse what no person can have meant."""
        if isinstance(value, int | float):
            return float(value)
        found = _FORM.fullmatch(str(value).strip())
        if not found or not any(found.groups()):
            self.fail(f"{value!r} is no duration such as 30s, 5m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = hours * 3600 + minutes * 60 + seconds
        if not SHORTEST <= total <= LONGEST:
            self.fail(f"{value} is not between {SHORTEST}s and {LONGEST // 3600}h", param, ctx)
        return float(total)
