"""Measures of runs, from their traces alone: numpy, no model, no database."""
