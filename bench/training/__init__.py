"""Network, training step, trainer, CUDA graph, and what a run is resumed from."""
