"""Checks of a decoder on real models."""
