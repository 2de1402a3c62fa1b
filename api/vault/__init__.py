"""Encryption at rest: what is stored is sealed, and the keys that open it.

    unlock key            people's; opens a locked manager's key file         `local`, `key`
    key-encryption key    in a file of each manager, or in a KMS; never in    `local`, `kms`
                          the store
    ring key              made anew with each change of the ring, stored
                          wrapped by the key-encryption key                   `api.trust.keyring`
    ring: the data keys   stored, sealed with the ring key                    `ring`
    cipher keys           derived from a data key, one a process and salt     `envelope`
    values                sealed with a cipher key, each for its place        `envelope`

`provider` is the contract of whatever wraps the ring key. docs/encryption.md says all of it for
those who run a cluster.
"""
