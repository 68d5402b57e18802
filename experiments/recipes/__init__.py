"""Recipes that only experiments need, named by their file: what they measure is no task of a user."""
