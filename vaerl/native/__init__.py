"""The update of SAC as one plain C++ call, where it was built and covers the agent.

The readable update in torch stays the definition; both take the same random numbers and give the
same losses up to rounding.
"""
