"""Adapters to what runs a model: one folder a runtime, behind the Model and Session protocols."""
