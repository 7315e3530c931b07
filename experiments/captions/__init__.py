"""Does a chain of conditional VAEs draw what a caption says?"""
