"""The main job: a CVAE policy next to a Gaussian one."""
