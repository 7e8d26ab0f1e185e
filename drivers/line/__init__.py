"""Instruments that speak in lines of text, over a serial port or TCP: asked (`poll`) or unasked (`stream`)."""
