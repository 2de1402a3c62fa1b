"""Where objects are kept: one contract, etcd and memory behind it, and a cache in front."""
