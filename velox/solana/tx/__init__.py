"""Solana transactions: instructions, messages, templates, signatures and what they may spend."""
