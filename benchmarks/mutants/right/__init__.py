"""Right work made differently, and a class of honest students."""
