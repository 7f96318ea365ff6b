"""Key maps from other libraries' weights to ours: one file each."""
