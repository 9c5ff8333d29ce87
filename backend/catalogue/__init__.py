"""What there is to choose from, read from ``presets``; for both halves, so nothing but the standard library."""
