"""Draft heads: small networks that read the target's hidden states. EAGLE-3 and EAGLE-3.1."""
