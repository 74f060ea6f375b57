"""Scripts, and what they share.

A regular package on purpose: of a plain folder, Python prefers a `tools` that another package has
left in site-packages, whichever comes first on the path.
"""
