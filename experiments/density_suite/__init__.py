"""How close do the densities come to a known truth?"""
