"""Multiple-choice benchmarks: presets, readers of their original layouts, categories, accuracy. Pure, torch-free."""
