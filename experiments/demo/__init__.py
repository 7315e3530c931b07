"""The main job: a CVAE policy beside simpler ones."""
