"""Pictures from exports of diffusion stages, as files."""
