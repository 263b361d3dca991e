"""Models: one file per runtime, all behind the Model and Session protocols of base.py."""
