"""What the system says: kinds, schemas, store, certificates, server, client, command line."""
