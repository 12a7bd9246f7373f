"""Measuring machines: this one, and others that only a file goes to and comes back from."""
