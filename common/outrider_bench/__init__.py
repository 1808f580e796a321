"""What Outrider is measured with. So far: a link emulator."""
