"""All samples as a map of their states."""
