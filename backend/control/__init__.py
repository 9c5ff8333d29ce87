"""Control films: what a scene knows exactly, drawn as the public tools draw what they estimate."""
