"""``python -m benchmarks [--rounds N] [--only NAME[,NAME...]] [--json FILE] [--list]``, as root (``make bench``).

One table. All contestants of a line run in turn, round after round, so that they share whatever else the machine
does; numbers are medians of the rounds, ratios are medians of each round's ratio with the quartiles behind. Everything
happens in a network and a mount namespace of the benchmark's own. Exit code 0 also where an aim is missed.
"""

import argparse
import json
import os
import platform
import sys

from benchmarks import bed, capture, chain, fixtures, inspect, replay, send, table
from benchmarks.lines import lines
from benchmarks.measure import BenchmarkError, Measurer

ROUNDS = 15
# Lines that are no commands beside one another, with modules of their own.
OWN = {
    "chain": chain.measure, "replay": replay.measure, "send": send.measure, "fixtures": fixtures.measure,
    "inspect": inspect.measure, "capture": capture.measure,
}  # fmt: skip


def main() -> int:
    """Measure and print; the exit code."""
    options = _options()
    if os.geteuid() != 0:
        print(
            "benchmarks: they make namespaces and attach programs: run them as root",
            file=sys.stderr,
        )
        return 10
    bed.enter_namespaces(sys.argv[1:])
    try:
        return _measure(options)
    except BenchmarkError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbenchmarks: interrupted", file=sys.stderr)
        return 130


def _measure(options: argparse.Namespace) -> int:
    with bed.made() as made:
        known = lines(made)
        every = [*known, *OWN]
        if options.list:
            print("\n".join(every))
            return 0
        names = options.only.split(",") if options.only else every
        unknown = [name for name in names if name not in every]
        if unknown:
            raise BenchmarkError(f"no line {unknown[0]!r}; the lines are {', '.join(every)}")
        measurer = Measurer([made.python, "-c", "pass"], made.environment)
        verdicts, results = table.Verdicts(), []
        print(
            f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
            f"{options.rounds} rounds\n\n{table.head()}"
        )
        for name in names:
            if name in OWN:
                text, found = OWN[name](options.rounds, verdicts.add)
                results += found
                print(f"\n{text}", flush=True)
                continue
            result = measurer.run(known[name](), options.rounds)
            results.append(table.as_json(result))
            print(f"\n{table.block(result, verdicts)}", flush=True)
    missed = [f"{line} ({aim})" for line, aim, met in verdicts.all if not met]
    met = len(verdicts.all) - len(missed)
    print(f"\naims met: {met} of {len(verdicts.all)}", *missed, sep="\n  missed: ")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"schema": "netbpf.benchmarks/1", "lines": results}, file, indent=1)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="netbpf beside its peers"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=ROUNDS, help=f"how often each runs (default: {ROUNDS})"
    )
    parser.add_argument("--only", metavar="NAME[,NAME...]", help="only these lines, see --list")
    parser.add_argument("--json", metavar="FILE", help="also write every single time, in seconds")
    parser.add_argument("--list", action="store_true", help="the names of the lines")
    return parser.parse_args()  # fmt: skip


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
