"""One file per framework, all behind one protocol."""
