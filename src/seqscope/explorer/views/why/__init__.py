"""Why a decision fell, by two methods."""
