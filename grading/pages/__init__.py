"""The report of a class, as pages."""
