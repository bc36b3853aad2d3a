"""One training loop for retraining, fine-tuning, distillation and from-scratch baselines.

They differ in data, objective and starting weights, never in the loop.
"""
