"""Does a policy obey instructions, also new combinations of words?"""
