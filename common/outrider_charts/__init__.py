"""Charts as SVG text, in colours that all eyes tell apart, for light and dark pages."""
