"""What ``--coverage`` prints."""

import click

from netbpf.cli.output import Line, say
from netbpf.packets.coverage_model import Coverage
from netbpf.packets.coverage_table import coverage_lines


def print_coverage(coverage: Coverage, *, verbose: bool = False) -> None:
    """A table of files, and what is not reached in them."""
    lines = coverage_lines(coverage, verbose=verbose)
    say(Line(text, "" if at else "bold") for at, text in enumerate(lines))


def print_notes(coverage: Coverage) -> None:
    """What is not as it was asked for, on standard error."""
    for note in coverage.notes:
        click.echo(f"netbpf: note: {note}", err=True)
