"""The committed experiments behind the evidence: one module a method, one command to run them again."""
