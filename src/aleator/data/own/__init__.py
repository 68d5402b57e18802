"""A user's own data, from a table or a folder, as the splits of a supervised recipe."""
