"""Progress in the terminal and in TensorBoard."""
