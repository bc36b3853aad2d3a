"""Code shared by architectures built on e3nn."""
