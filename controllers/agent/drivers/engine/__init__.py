"""How the docker driver speaks to a Docker Engine: calls, request bodies, answers, credentials."""
