"""Is it the latent head or the weighting that helps a model-based agent?"""
