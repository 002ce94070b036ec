"""`make bench`: what things cost on this machine, ratios against a named reference in the same run."""
