"""The network of this node's containers, made by the agent itself where the engine lets it.

An engine's own way takes more work than all the rest of a container's start. Where the engine has
the runtime `skep` (the file `runtime` beside this one), the agent makes a container's namespace,
and that runtime puts the container into it.
"""
