"""HTTP, websocket and JSON-RPC servers on the loopback interface."""
