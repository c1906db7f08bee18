"""`mst doctor`: the examination of an installation."""

from __future__ import annotations

from pathlib import Path

from .display import console, print_line


def doctor(data_path: Path | None = None, json: bool = False) -> None:
    """Examine this installation: versions, devices, threads, extras, data sets, and a self-check of the numbers.

    Small networks whose results are known exactly are computed under both codings. The exit code is 1 if a number is
    wrong; every fault is named with what to do about it. Nothing is downloaded or installed.

    Example: mst doctor
    Example: mst doctor --json > installation.json

    Args:
        data_path: Folder in which files of data sets are searched; without it the usual places.
        json: Print the findings as JSON instead of tables.
    """
    from json import dumps

    from mst.errors import InputError
    from mst.experiments import run_doctor
    from mst.files import plain
    from mst.report import checks_table, extras_table, fault_lines, installation_table

    report = run_doctor(data_path)
    if json:
        print(dumps(plain(report.record()), indent=2))
    else:
        for table in (installation_table, extras_table, checks_table):
            console.print(table(report))
        for line in fault_lines(report):
            print_line(line)
    if not report.numbers_are_right:
        failed = [check for check in report.checks if check.passed is False]
        named = "; ".join(f"{check.name} ({check.finding})" for check in failed)
        raise InputError(f"{len(failed)} of the checks of numbers failed: {named}", remedy=failed[0].remedy)
