"""Values that are made here: random text, certificates, SSH and age key pairs.

`making.make` makes what a manifest asks for; `rotation` says when it is to be made anew. No I/O:
the values go back to who asked, and nowhere else.
"""
