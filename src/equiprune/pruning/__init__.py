"""From importance to a smaller model: calibrate, allocate, slice."""
