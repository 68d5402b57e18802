"""Training together over one byte per gradient."""
