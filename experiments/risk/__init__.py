"""Does a plan for the worst outcomes need a model that knows them?"""
