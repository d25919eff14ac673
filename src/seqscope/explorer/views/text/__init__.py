"""Text coloured by a unit."""
