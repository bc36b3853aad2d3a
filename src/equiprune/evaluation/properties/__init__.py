"""Physical properties of models, side by side: what errors against labels do not say."""
