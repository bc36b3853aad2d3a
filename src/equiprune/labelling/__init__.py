"""Labels from a teacher, in a file that can be gone on with."""
