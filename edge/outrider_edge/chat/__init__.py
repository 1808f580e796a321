"""`outrider chat`: a conversation in the terminal."""
