"""Activation maximization: an input that a score asks for (Erhan, Bengio, Courville and Vincent 2009, "Visualizing higher-layer
features of a deep network"), made readable for series."""
