"""Which densities make good dynamics models, where several things can happen?"""
