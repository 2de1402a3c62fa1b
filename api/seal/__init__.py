"""Values sealed for git: anybody can seal one to a cluster's public key, only its managers open it.

`sealed.seal` and `sealed.Sealed` are the format, written down in docs/sealing.md; `keys` are the
cluster's keys, `keyfile` those that a client has fetched. No I/O here but that file's.
"""
