"""Making the runtime `skep` known to this machine's Docker Engine, and taking it away again.

Three things belong together: the program, a file of its own that stays when skep is updated; the
entry in the engine's configuration file, so that an engine that starts again has it; and the entry
in the running engine, which reads that file when it is told to.

What the file says is decided in `configuration`, whether an engine is fit in `fitness`, which
process it is found by `process`; none of them changes anything. `registrar` does, in an order that
can be broken off anywhere and run again, and puts back what the engine does not take.
"""
