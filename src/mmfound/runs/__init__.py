"""What keeps a run: its folder, configuration, checkpoints, metrics and summary."""
