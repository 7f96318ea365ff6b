"""What every diffusion system shares."""
