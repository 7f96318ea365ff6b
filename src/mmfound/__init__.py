"""mmfound: train, evaluate, resume and use image-text foundation models from YAML recipes."""

__version__ = "0.1.0"
