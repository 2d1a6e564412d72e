"""Run experiments: here, in processes, on a Ray cluster; locks; when to checkpoint."""
