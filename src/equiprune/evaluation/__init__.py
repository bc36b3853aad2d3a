"""How accurate and how fast a model is."""
