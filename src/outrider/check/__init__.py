"""Checks of a decoder on real models. What a learner's file runs in imports none of them: see `learner/child`."""
