"""The study of what a training step costs."""
