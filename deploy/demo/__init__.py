"""`make demo`: the whole journey on a real model, from nothing, on this machine."""
