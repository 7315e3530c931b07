"""Does the CVAE draw handwritten characters, and a new one after a single example?"""
