"""MOFA-Video (Niu et al. 2024): Stable Video Diffusion steered by the motion of the first frame's pixels."""
