"""Measurements: each module prints a table of ratios taken in one interleaved run."""
