"""Tasks from end to end, with the methods of the house as their options."""
