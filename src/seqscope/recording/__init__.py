"""Recording: what the layers of a model do over a whole data set, on disk, by one process or a cluster."""
