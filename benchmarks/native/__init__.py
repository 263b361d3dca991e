"""The native runtime beside llama.cpp and beside a busy process; its greedy texts; what rounded weights cost."""
