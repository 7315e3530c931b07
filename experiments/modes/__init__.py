"""Which policies keep every mode when they learn online?"""
