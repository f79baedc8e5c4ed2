"""The JSON-RPC methods of a Solana node, over a `velox.testing.chain.Chain`.

`service` joins the methods; each other module has those of one subject.
"""
