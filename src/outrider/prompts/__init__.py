"""The one road from a prompt to a request: text, token ids, conversations and files of prompts."""
