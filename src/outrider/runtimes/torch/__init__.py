"""PyTorch: models of transformers, and a lean forward pass for Llama-like models on a CPU."""
