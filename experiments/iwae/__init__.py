"""Does the core reproduce the importance-weighted autoencoder on MNIST?"""
