"""Everything a prediction run writes: maps, styles, pictures, polygons, catalogue."""
