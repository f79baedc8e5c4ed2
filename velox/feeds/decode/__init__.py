"""A venue's messages become records. Nothing here opens a file or a socket.

A session takes the messages of one connection, in order, with ``feed(raw, recv_ns, origin)``. It
writes what they mean into a sink, which is a `LevelRecorder` for a recording. It reports what it
cannot read to the function that it was given, with the origin of the message.
"""
