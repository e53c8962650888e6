"""Speed and size, measured: `python -m benchmarks.figures`. Nothing here is asserted by a test."""
