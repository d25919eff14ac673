"""Where else the same units are on."""
