"""Tags: one typed tree, three ways to write it."""
