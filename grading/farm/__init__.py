"""Grading on many machines: the same units as on this one, handed out through a Dask scheduler."""
