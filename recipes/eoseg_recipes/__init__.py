"""Recipes: one folder each, with a fit.yaml and a README.md."""
