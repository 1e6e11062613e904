"""Grading a class: many submissions, none trusted."""
