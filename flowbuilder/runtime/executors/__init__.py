"""Where attempts run: on the driver itself, on threads, on the I/O loop, in worker processes. Each
reports one `Completion`.
"""
