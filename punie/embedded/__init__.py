"""The embedded models and the generated data set: recipes that only their own commands reach."""
