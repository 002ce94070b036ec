"""One readable file per way to train."""
