"""What runs in the process of its own, beside the learner's file. It judges nothing: it calls, counts and tells."""
