"""Does a CVAE policy keep up with the Gaussian in SAC on MuJoCo?"""
