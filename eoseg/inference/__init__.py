"""How a scene is mapped: windows, blending, mosaicking. Knows no trainer and no method."""
