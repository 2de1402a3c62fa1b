"""Where objects are kept: one contract, etcd and memory behind it, and a cache in front."""

import os

# Read by gRPC when it is first imported. Children of this process exec at once, so gRPC need not
# survive a fork; with its handlers on, each fork holds up its connections, or says that it won't.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
