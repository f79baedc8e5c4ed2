"""Decodes a venue's messages into records. These modules open no file and no socket.

A session takes the messages of one connection, in order, with ``feed(raw, recv_ns, origin)``. It
writes the decoded levels and trades to a sink, which is a `LevelRecorder` for a recording. It
reports messages that it cannot read to a given function, with the origin of the message.

`BookSession` holds what most venues share. A venue's class adds how its messages chain, and where
its own time stands.
"""
