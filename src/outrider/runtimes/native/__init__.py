"""The native CPU runtime: a compiled library of our own, which scores several tokens for little more than one."""
