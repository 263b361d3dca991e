"""What other projects make of the same questions: transformers, llama-cpp-python, and the bare loop of llama.cpp."""
