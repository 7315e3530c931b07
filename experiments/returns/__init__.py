"""Which critic and which switches earn return on MuJoCo, and what does a policy class add?"""
