"""Other projects on the same questions: transformers, llama-cpp-python, and the bare loop of llama.cpp."""
