"""Real processes that are killed at any instant, and books that are checked afterwards."""
