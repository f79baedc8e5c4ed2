"""Requests to RPC nodes and Jito block engines: checked, bounded and paced."""
