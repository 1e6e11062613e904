"""What is claimed of a submission: a file a lab, with its tolerances and what is claimed of that lab alone."""
