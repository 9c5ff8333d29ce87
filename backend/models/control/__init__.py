"""Wan 2.1 VACE: films led by control films, masks and reference pictures."""
