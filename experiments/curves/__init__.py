"""Does vaerl's SAC learn as stable-baselines3's does?"""
