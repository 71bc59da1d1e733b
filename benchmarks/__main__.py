"""``python -m benchmarks run|check|list``: measure, and rewrite or judge.

``run`` rewrites the tables of README.md; ``check`` writes nothing and exits with 1 if an
expectation is missed by more than its tolerance; ``list`` shows the questions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.definition import Benchmark, load_benchmarks
from benchmarks.judgement import judge
from benchmarks.measurement import measure
from benchmarks.report import render, splice_file

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    benchmarks = load_benchmarks()
    names = {benchmark.name for benchmark in benchmarks}
    if unknown := set(options.only or ()) - names:
        _say(f"no benchmark is called {', '.join(sorted(unknown))}")
        _say(f"there are {', '.join(sorted(names))}")
        return 2
    chosen = [
        benchmark for benchmark in benchmarks if not options.only or benchmark.name in options.only
    ]
    if options.action == "list":
        for benchmark in chosen:
            print(f"{benchmark.name:20} {benchmark.question}")
        return 0
    if options.action == "run":
        return _run(chosen, is_quick=options.quick)
    return _check(chosen, is_quick=not options.full)


def _run(benchmarks: list[Benchmark], *, is_quick: bool) -> int:
    begin = time.monotonic()
    for benchmark in benchmarks:
        measured = measure(benchmark, is_quick=is_quick, report=_say)
        body = render(benchmark, measured)
        command = (
            f"python -m benchmarks run{' --quick' if is_quick else ''} --only {benchmark.name}"
        )
        splice_file({benchmark.name: (command, body)})
        print(f"\n## {benchmark.title}\n\n{body}\n")
    _say(f"wrote benchmarks/README.md after {time.monotonic() - begin:.0f} s")
    return 0


def _check(benchmarks: list[Benchmark], *, is_quick: bool) -> int:
    missed = 0
    for benchmark in benchmarks:
        measured = measure(benchmark, is_quick=is_quick, report=_say)
        for verdict in judge(benchmark, measured):
            missed += not verdict.is_tolerated
            found = f"found {verdict.found:.3g}" if verdict.found is not None else verdict.reason
            where = f"{verdict.benchmark} {verdict.variant}".strip()
            print(f"{verdict.word:16} {where}: {verdict.wanted}; {found}")
    print(f"{missed} expectations missed" if missed else "all expectations met")
    return 1 if missed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure FlowBuilder beside floors and peers."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="measure and rewrite benchmarks/README.md")
    run.add_argument(
        "--quick", action="store_true", help="fewer rounds, smaller graphs; under 10 minutes"
    )
    check = actions.add_parser(
        "check", help="measure and judge; exit code 1 if an expectation is missed"
    )
    check.add_argument(
        "--full", action="store_true", help="as many rounds and tasks as the full run"
    )
    for action in (run, check, actions.add_parser("list", help="show the questions")):
        action.add_argument(
            "--only", action="append", metavar="NAME", help="this benchmark (repeatable)"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
