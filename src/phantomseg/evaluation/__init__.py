"""Prediction against reference."""
