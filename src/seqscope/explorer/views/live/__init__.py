"""A sample played step by step."""
