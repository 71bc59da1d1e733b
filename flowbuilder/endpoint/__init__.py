"""The control plane of a live engine: a socket per process, a file that says where it is, a client.

Requests are framed msgpack maps, answers are msgpack and Arrow; never code, never pickles.
"""
