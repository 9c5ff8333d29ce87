"""Wan 2.2 Animate: a person from a picture, led by body, hands and face."""
