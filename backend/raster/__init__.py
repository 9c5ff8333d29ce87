"""Triangles to pixels: the rasteriser, a shot's surfaces, and the film that carries the references onto them."""
