"""`outrider bench`: what Outrider brings on prompts of your own."""
