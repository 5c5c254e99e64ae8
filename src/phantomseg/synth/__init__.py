"""Labels to image."""
