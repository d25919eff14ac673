"""All samples as a table."""
