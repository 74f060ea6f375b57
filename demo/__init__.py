"""The page in the browser, and what it is made of.

A regular package on purpose: of a plain folder, Python prefers a `demo` that another package has.
"""
