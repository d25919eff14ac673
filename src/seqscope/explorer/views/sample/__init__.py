"""One sample on its time axis."""
