"""What a simulation found, for people: a table of text and an HTML report. Knows results as data, no engine."""

from understudy.report.html import comparison_html
from understudy.report.table import comparison_table, print_comparison

__all__ = ["comparison_html", "comparison_table", "print_comparison"]
