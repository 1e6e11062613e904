"""What students hand in, taken into private snapshots."""
