"""The outermost rim: the `outrider` command and the generated wire code (`outrider.v1`)."""
