"""Wrong work and right work made systematically, handed to the suite: what it finds, what it names, what it refuses."""
