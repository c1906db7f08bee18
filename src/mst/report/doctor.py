"""The examination of an installation in words."""

from __future__ import annotations

from rich.table import Table

from mst.experiments import HealthReport


def installation_table(report: HealthReport) -> Table:
    """Versions, devices, threads and data sets."""
    table = Table(title="Installation", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    versions = (f"{name} {found or 'missing'}" for name, found in report.versions.items())
    table.add_row("versions", ", ".join(versions))
    table.add_row("devices", ", ".join(f"{device} ({name})" for device, name in report.devices.items()))
    table.add_row("threads", ", ".join(f"{name} {'not set' if n is None else n}" for name, n in report.threads.items()))
    here = (f"{name}: {place}" for name, place in report.datasets.items() if place)
    table.add_row("data sets found", "; ".join(here))
    missing = (name for name, place in report.datasets.items() if not place)
    table.add_row("not found", f"{', '.join(missing)} (`mst datasets` lists where they come from)")
    return table


def extras_table(report: HealthReport) -> Table:
    """Optional extras: what they are for, and how to install what is missing."""
    table = Table(title="Optional extras")
    for heading in ("extra", "what for", "packages", "to install"):
        table.add_column(heading, no_wrap=heading == "extra", overflow="fold")
    for extra in report.extras:
        packages = ", ".join(f"{name} {found or 'missing'}" for name, found in extra.versions.items())
        # a text in brackets would be read as markup
        command = "" if extra.is_complete else extra.install_command.replace("[", r"\[")
        table.add_row(extra.name, extra.purpose, packages, command)
    return table


def checks_table(report: HealthReport) -> Table:
    """Self-check of the numbers."""
    table = Table(title="Numbers")
    for heading in ("check", "result", "found"):
        table.add_column(heading, no_wrap=heading != "found", overflow="fold")
    for check in report.checks:
        result = {True: "passed", False: "FAILED", None: "does not apply"}[check.passed]
        table.add_row(check.name, result, check.finding.replace("[", r"\["))
    return table


def fault_lines(report: HealthReport) -> list[str]:
    """A line for each fault with its remedy, those of the numbers first; one line if there is none."""
    lines = [f"FAILED: {check.name}. To do: {check.remedy}" for check in report.checks if check.passed is False]
    lines += [f"fault: {fault.what}. To do: {fault.remedy}" for fault in report.faults]
    return lines or ["No faults found."]
