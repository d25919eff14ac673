"""Activation maximization: an input that a score asks for, made readable for series.

Erhan, Bengio, Courville and Vincent 2009, "Visualizing higher-layer features of a deep network".
"""
