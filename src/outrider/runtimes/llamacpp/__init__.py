"""llama.cpp: GGUF files."""
