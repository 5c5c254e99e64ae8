"""Networks, losses, and the folder a model is kept in."""
