"""A lock-free transaction pipeline for high-frequency trading on Solana."""
