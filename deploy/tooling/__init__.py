"""What developers run: set-up, stub generation, checks."""
