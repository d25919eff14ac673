"""What one unit does over the data set."""
