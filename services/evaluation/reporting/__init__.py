"""From samples to a report: numbers, comparisons and the files that people open. Pure and torch-free."""
