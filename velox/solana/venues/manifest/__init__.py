"""Manifest, an order book on Solana: its instructions, its market account and its events."""
