"""`outrider doctor`: is everything there that an edge needs, and what will it gain?"""
