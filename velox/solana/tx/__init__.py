"""Solana transactions: instructions, messages, templates, signatures and spending limits."""
