"""A class of hundreds, some of it hostile, graded while the grader is killed and the share goes away."""
