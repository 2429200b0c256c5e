"""Commands with commands of their own: ``netbpf prog list``."""

import re
from typing import Any

import click

from netbpf.text import did_you_mean


class ValuesCommand(click.Command):
    """A command that takes ``-5`` for the number that it is, and not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As ever; what begins with a minus and a digit is an argument."""
        # Only then, so that other commands name options that they do not know.
        ctx.ignore_unknown_options = any(_NEGATIVE.match(one) for one in args)
        return super().parse_args(ctx, args)


_NEGATIVE = re.compile(r"-\.?\d")


class Group(click.Group):
    """A group that lists what there is where no command is named, and knows near names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command, ``list`` is meant."""
        helping = any(one in ("-h", "--help") for one in args)
        if not helping and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command, or a UsageError with near names."""
        if args and args[0] not in self.commands:
            hint = did_you_mean(args[0], self.commands, "there are")
            raise click.UsageError(
                f"{ctx.info_name} has no command {args[0]!r}" + (f"; {hint}" if hint else "")
            )
        return super().resolve_command(ctx, args)
