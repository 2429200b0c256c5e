"""``netbpf test``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.coverage import Wanted, coverage_options
from netbpf.cli.options import json_option, verbose_option

if TYPE_CHECKING:
    from netbpf.packets.cases_model import CaseResult, CasesResult


@click.command("test", short_help="Run a table of cases: packets, verdicts, counters.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-k",
    "words",
    metavar="TEXT",
    multiple=True,
    help="Only cases whose name holds this text; repeatable.",
)
@click.option(
    "--object",
    "source",
    metavar="OBJECT",
    help="Test this object instead of the one that the file names.",
)
@click.option("--junit", "junit_file", metavar="FILE", help="Write the results as JUnit XML.")
@click.option(
    "-w",
    "--write",
    "capture",
    metavar="FILE",
    help="Write the packets of cases that failed, as pcapng.",
)
@coverage_options
@json_option
@verbose_option
def test_command(
    files: tuple[str, ...],
    words: tuple[str, ...],
    source: str | None,
    junit_file: str | None,
    capture: str | None,
    as_json: bool,
    verbose: bool,
    coverage: Wanted,
) -> int:
    """Run the cases of TOML files: for each, packets are sent through a program, attached to nothing.

    A case says what has to come of its packet: verdict, the packet afterwards, counters. Each has a program of its
    own, just loaded. The exit code is 1 if a case failed and 2 if a file is wrong. -v names the cases that passed too.

    \b
    object = "filter.bpf.c"
    [[case]]
    name = "DNS is dropped and counted"
    packet = "IP(dst='10.0.0.1')/UDP(dport=53)"
    verdict = "drop"
    counters = { dropped = 1 }
    """
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render.test import print_result, print_test

    results: list[CasesResult] = []
    every: list[CaseResult] = []
    try:
        with patience("the cases are running"), coverage.collecting():
            # All files are read before the first case is run.
            for read in [api.read_cases(file, object=source) for file in files]:
                results.append(api.run_cases(read, words=words, progress=every.append))
                if not as_json:
                    print_result(results[-1], verbose=verbose)
    finally:
        if junit_file and results:
            from netbpf.packets.cases_junit import write_junit

            write_junit(junit_file, results)
        if capture and every:
            from netbpf.packets.cases_keep import write_failed

            write_failed(capture, every)
    code = print_test(results, as_json=as_json, more=coverage.json())
    coverage.show(as_json=as_json, verbose=verbose)
    return code
