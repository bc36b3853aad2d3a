"""What is true of a file: exactness, physics, lineage, and the laws of adapters."""
