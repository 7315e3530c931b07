"""How much entropy does a policy bear, by density, where rewards are not shaped?"""
