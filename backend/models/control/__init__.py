"""Wan models that are led by control films: VACE and Animate."""
