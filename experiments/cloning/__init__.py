"""How written characters are judged: by a recogniser, and by the ways in which people write."""
