"""Records of runs come in; one page of HTML goes out, and its charts as files."""

from .report import PageReport, build_report

__all__ = ["PageReport", "build_report"]
