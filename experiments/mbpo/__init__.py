"""Does a learned model save real steps on MuJoCo?"""
