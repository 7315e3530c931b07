"""Which estimator of the encoder's gradient is right, and how noisy is each?"""
