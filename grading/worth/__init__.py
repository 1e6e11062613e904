"""What a rubric says, and what checks are worth by it."""
